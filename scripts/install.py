"""Make .venv and install jobmatch into it, with the versions of constraints.txt: python3.11 scripts/install.py [extra …]"""

import os
import subprocess
import sys
import venv
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"


def say(line: str):
    print(f"install: {line}", flush=True)


def pip(*args: str):
    "Run pip, showing a line for every 25 packages; its whole output only where it fails."
    cmd = [VENV / "bin/python", "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check", *args]
    tail, n = deque(maxlen=40), 0
    with subprocess.Popen(cmd, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        for line in run.stdout:
            tail.append(line)
            n += line.startswith("Collecting ")
            if line.startswith("Collecting ") and n % 25 == 0:
                say(f"{n} packages fetched")
            if line.startswith("Installing collected packages:"):
                say(f"unpacking {line.count(',') + 1} packages")
    if run.returncode:
        sys.exit(f"{''.join(tail)}\ninstall: pip failed; the lines above say why. Run the same make command again to go on.")


def main(extras: list[str]):
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"install: Python 3.11 is needed, this is {sys.version.split()[0]}; name one with: make PYTHON=/path/to/python3.11 …")
    if not (VENV / "bin/pip").exists():
        say("making .venv")
        venv.create(VENV, with_pip=True, clear=True)
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    # alone and first: whatever is resolved beside it may ask for the newest build, which is several GB
    say(f"{torch} (once; a few minutes)")
    pip(torch, "-c", "constraints.txt")
    target = f".[{','.join(extras)}]" if extras else "."
    say(f"jobmatch{target[1:]} and what it needs")
    pip("--use-pep517", "-e", target, "-c", "constraints.txt")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)  # a stray package on it would be taken for an installed one
    main(sys.argv[1:])
