"The notebooks of the stream by papermill, from another folder: nbdev_test leaves them to this test, since each takes a while."

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHANGED = {"06_feature_store": ("weeks", 12), "07_stream": ("n_ads", 60), "08_monitor": ("alpha", 0.01), "09_canary": ("seed", 7), "10_retrain": ("n_ads", 250)}


@pytest.mark.parametrize("notebook", CHANGED)
def test_a_notebook_runs_with_a_changed_parameter(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("JOBMATCH_TINY", "1")
    name, value = CHANGED[notebook]
    words = ["-m", "papermill", "--no-progress-bar", ROOT / "nbs" / f"{notebook}.ipynb", "out.ipynb", "-p", name, str(value)]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    kept = json.loads((tmp_path / "out.ipynb").read_text(encoding="utf-8"))
    assert kept["metadata"]["papermill"]["parameters"] == {name: value}
    tags = [c["metadata"].get("tags", []) for c in kept["cells"]]
    at = tags.index(["parameters"])
    assert tags[at + 1] == ["injected-parameters"] and "".join(kept["cells"][at + 1]["source"]).endswith(f"{name} = {value}\n")


def test_all_notebooks_of_the_stream_are_here():
    numbered = [p.stem for p in sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))]
    assert sorted(CHANGED) == [n for n in numbered if n >= "06"]  # tests/test_papermill.py runs those before
