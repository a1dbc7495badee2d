"The wheel in an environment of its own, away from the repository."

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from jobmatch.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("jobmatch", "setup.py", "settings.ini", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    "Built from a copy, since building leaves folders behind."
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    words = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
    return next(out.glob("jobmatch-*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    "A fresh environment with the wheel; what it needs comes from the environment of the tests."
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    words = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), *words], check=True)
    installed = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True)
    # a line with a path puts the folder on sys.path, without running the .pth files in it: the editable jobmatch stays unknown
    (Path(installed.stdout.strip()) / "needs.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    "A folder with an ad and a model, and nothing of the repository."
    shutil.copy(ROOT / "examples" / "ads" / "nurse_prose.txt", tmp_path / "ad.txt")
    shutil.copytree(tiny_run() / "model", tmp_path / "model")
    return tmp_path


def call(*words: object, cwd: Path, status: int = 0, **env: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "JOBMATCH_HOME", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=kept | env, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_the_wheel_holds_all_files_of_the_package(wheel):
    kept = {p.relative_to(ROOT).as_posix() for p in (ROOT / "jobmatch").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert "jobmatch/py.typed" in kept and kept == {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("jobmatch/")}


def test_import_takes_less_than_a_second(python, elsewhere):
    code = "import time; begin = time.perf_counter(); import jobmatch; print(time.perf_counter() - begin, jobmatch.__file__)"
    seconds, place = call(python, "-c", code, cwd=elsewhere).stdout.split()
    assert float(seconds) < 1 and Path(place).is_relative_to(python.parents[1])


def test_the_command_matches_an_ad(python, elsewhere):
    command = python.with_name("jobmatch")
    assert "match" in call(command, "--help", cwd=elsewhere).stdout
    said = call(command, "match", "ad.txt", "--model", "model", "--threshold", "0", "--top-n", "3", "--format", "jsonl", cwd=elsewhere).stdout
    (ad,) = map(json.loads, said.splitlines())
    text = (elsewhere / "ad.txt").read_text(encoding="utf-8")
    assert ad["job_id"] == "ad.txt" and len(ad["matches"]) == 3
    assert all(text[e["start"] : e["end"]] == e["text"] for m in ad["matches"] for e in m["evidence"])


def test_relative_paths_start_from_the_working_folder_or_jobmatch_home(python, elsewhere):
    ask = [python, "-c", "from jobmatch.core.runs import resolve; print(resolve('outputs'))"]
    assert call(*ask, cwd=elsewhere).stdout.strip() == str(elsewhere / "outputs")
    home = elsewhere / "model"
    assert call(*ask, cwd=elsewhere, JOBMATCH_HOME=str(home)).stdout.strip() == str(home / "outputs")


def test_running_the_notebooks_asks_for_the_repository(python, elsewhere):
    said = call(python.with_name("jobmatch"), "run", cwd=elsewhere, status=2).stderr
    assert "needs the repository" in said and "Traceback" not in said


def test_contracts_and_feature_store_come_with_the_wheel(python, elsewhere):
    "Schemas load, and a store is made and used, without a clone."
    pytest.importorskip("feast")
    code = """
import numpy as np
from jobmatch.live.contracts import TYPES, VERSIONS, read_schema, schema
from jobmatch.live.feature_store import EmbeddingStore

assert all(read_schema(topic, VERSIONS[topic]) == schema(topic) for topic in TYPES)
EmbeddingStore().put({"some-text": np.ones((2, 4), dtype=np.float32)}, "m1")
print(*EmbeddingStore().get(["some-text"], "m1"), EmbeddingStore().folder)
"""
    said = call(python, "-c", code, cwd=elsewhere).stdout.split()
    assert said == ["some-text", str(elsewhere / "outputs" / "feature_repo")]
    assert {p.name for p in (elsewhere / "outputs" / "feature_repo").glob("*.*")} >= {"definitions.py", "feature_store.yaml", "feature_store.redis.yaml"}


def test_settings_come_from_a_file_and_from_variables(python, elsewhere):
    command = python.with_name("jobmatch")
    (elsewhere / "jobmatch.toml").write_text('group = "nightly"\npartitions = 12\n')
    rows = {line.split()[0]: line.split()[1:3] for line in call(command, "config", cwd=elsewhere, JOBMATCH_PARTITIONS="6").stdout.splitlines()}
    assert (rows["group"], rows["partitions"], rows["metrics_port"]) == (["nightly", "jobmatch.toml"], ["6", "JOBMATCH_PARTITIONS"], ["9108", "default"])
    assert "(default: nightly)" in call(command, "stream", "--help", cwd=elsewhere).stdout
    (elsewhere / "jobmatch.toml").write_text('goup = "nightly"\n')
    assert "no setting goup" in call(command, "config", cwd=elsewhere, status=2).stderr
