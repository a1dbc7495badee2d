"Files of the project: workflows and hooks call what is in the repository, pages say what is there."

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobmatch.core.runs import read_json
from jobmatch.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_calls_what_is_there(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["name"] and workflow[True]  # YAML reads the key `on` as true
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for name, job in workflow["jobs"].items():
        assert job["runs-on"] and job["steps"] and set(job.get("needs", "").split()) <= workflow["jobs"].keys(), name
        for words in (step["run"].split() for step in job["steps"] if "run" in step):
            assert words[1] in targets if words[0] == "make" else os.access(ROOT / words[0], os.X_OK), words


def test_the_workflows_run_the_suite_and_build_the_pages():
    commands = re.findall(r"- run: (.*)", "\n".join(p.read_text(encoding="utf-8") for p in WORKFLOWS))
    assert {".ci/run", "make docs"} <= set(commands)


def test_the_hooks_call_what_is_installed():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"].split() for repo in config["repos"] for hook in repo["hooks"]]
    assert {"nbdev_clean", "nbdev_export", "ruff"} <= {Path(words[0]).name for words in entries}
    for program, *words in entries:
        assert program.startswith(".venv/bin/") and (Path(sys.executable).parent / Path(program).name).exists(), program
        assert all((ROOT / w).is_file() for w in words if w.endswith(".py"))


def test_the_model_card_takes_the_figures_of_a_run(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    model_card, run = importlib.import_module("model_card"), tiny_run()
    card = model_card.filled(json.loads(model_card.CARD.read_text(encoding="utf-8")), run)
    text = "\n".join("".join(cell["source"]) for cell in card["cells"])
    assert f"| model version | {read_json(run / 'model' / 'matcher.json')['model_version']} |" in text
    assert f"{read_json(run / 'full_pipeline' / 'metrics.json')['jobs_golden.f1']:.3f}" in text and "Not filled in" not in text


def test_the_architecture_names_every_module():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [p.stem for folder in ("core", "live") for p in (ROOT / "nbs" / folder).glob("*.ipynb")]
    assert modules and not [m for m in modules if not re.search(rf"\b{m}\b", text)]


@pytest.mark.parametrize("target", ["best", "quick"])
def test_the_makefile_names_parameters_that_the_stages_have(target):
    from jobmatch.cli import STAGES, notebook_parameters, parse_override, plan

    said = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = next(line for line in said.splitlines() if "jobmatch run" in line).split()
    overrides = dict(parse_override(words[i + 1]) for i, word in enumerate(words) if word == "-p")
    taken = plan({stage: notebook_parameters(ROOT / "nbs" / f"{stage}.ipynb") for stage in STAGES}, overrides)
    assert overrides and taken["01_bi_train"]["epochs"] == {"best": 3, "quick": 0}[target]


PATCHED = """from fastcore.basics import patch


class Box:
    size = 1


@patch
def grown(self: Box, by: int) -> int:
    return self.size + by + self.double


@patch(as_prop=True)
def double(self: Box) -> int:
    return 2 * self.size


@patch(cls_method=True)
def make(cls: Box, size: int) -> Box:
    box = cls()
    box.size = size
    return box
"""


def test_mypy_reports_a_wrong_call_of_a_patched_method(tmp_path):
    (tmp_path / "box.py").write_text(PATCHED)
    lines = ["from box import Box", "right: int = Box.make(3).grown(1) + Box().double", 'Box().grown("1")', 'Box.make("3")', "Box().double()", "Box().absent()"]
    (tmp_path / "use.py").write_text("\n".join(lines))
    options = ["[mypy]", f"plugins = {ROOT / 'scripts' / 'mypy_patch.py'}", "native_parser = False", "ignore_missing_imports = True",
               "[mypy-fastcore.*]", "follow_imports = skip"]
    (tmp_path / "mypy.ini").write_text("\n".join(options))
    said = subprocess.run([sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "box.py", "use.py"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert [line.split(": error")[0] for line in said.splitlines() if ": error" in line] == [f"use.py:{n}" for n in (3, 4, 5, 6)], said
