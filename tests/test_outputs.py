"Outputs that are stored in notebooks: of a real kernel, by the cells' sources, and never with a path of the machine."

import json
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import outputs  # noqa: E402


def notebook(path: Path, *sources: str) -> Path:
    title = nbformat.v4.new_markdown_cell("# A notebook\n\n> It shows something")
    exported = nbformat.v4.new_code_cell("#| default_exp core.some")
    nbformat.write(nbformat.v4.new_notebook(cells=[title, exported, *map(nbformat.v4.new_code_cell, sources)]), path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "core").mkdir()
    return tmp_path / "core"


def shown(path: Path) -> list[list[str]]:
    cells = json.loads(path.read_text())["cells"]
    return [["".join(o.get("text") or o["data"]["text/plain"]) for o in c["outputs"]] for c in cells if c["cell_type"] == "code"][1:]


def test_outputs_of_a_run_are_stored(folder, capsys):
    path = notebook(folder / "some.ipynb", "import os\nimport sys", "#| eval: false\nos.abort()", 'print("a note", file=sys.stderr)\nos.environ["JOBMATCH_TINY"]', "6 * 7", "x = 1")
    assert outputs.store(path, outputs.execute(path)) == []
    assert shown(path) == [[], [], ["'1'"], ["42"], []] and capsys.readouterr().out == "some.ipynb: outputs of 2 cells\n"
    before = path.read_text()
    assert outputs.store(path, outputs.execute(path)) == [] and path.read_text() == before


def test_a_path_of_the_machine_is_not_stored(folder, capsys):
    path = notebook(folder / "some.ipynb", "6 * 7", "import tempfile", "tempfile.mkdtemp()")
    before = path.read_text()
    assert "holds a path" in outputs.store(path, outputs.execute(path))[0] and path.read_text() == before
    assert capsys.readouterr().out.startswith("some.ipynb: left as it was\n")
