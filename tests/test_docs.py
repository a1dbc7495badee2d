"The documentation builds, strictly, and its pages read as they should."

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def test_the_documentation_builds_and_its_pages_are_in_order():
    for script in ("docs.py", "check_docs.py"):
        done = subprocess.run([sys.executable, SCRIPTS / script], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{script}:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
