"The stages as one chain, through the command and through papermill itself, called from another folder as a user would."

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobmatch.core.runs import read_frame
from jobmatch.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STAGES = ["00_data", "01_bi_train", "02_bi_eval", "03_cross_data", "04_cross_train", "05_full_pipeline"]
SMALL = ["n_jobs=12", "n_workers=0", "max_sentences=40", "small=50", "top_k=5", "max_length=40", "runtime='torch'"]


def call(*words: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([BIN / words[0], *map(str, words[1:])], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, f"{done.args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_chain(run: Path, *more: object, cwd: Path) -> subprocess.CompletedProcess:
    return call("jobmatch", "run", "--run", run, "--source", "own", *(w for p in SMALL for w in ("-p", p)), *more, cwd=cwd)


def record(run: Path, stage: str) -> dict:
    return json.loads((run / stage[3:] / "run.json").read_text())


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    write_own_data(folder / "own")
    return folder


def write_own_data(folder: Path):
    "Real jobs, with the attributes they ask for, in the files that users bring."
    folder.mkdir()
    attributes, jobs, labels = (read_frame(tiny_run("data") / "data" / f"{n}.parquet") for n in ("attributes", "jobs", "labels"))
    attributes = attributes[attributes.attribute_id.isin(labels.attribute_id)]
    attributes[["attribute_id", "name", "definition"]].to_csv(folder / "Defs.tsv", sep="\t", index=False)
    jobs[["job_id", "title", "text"]].to_csv(folder / "jobs.csv", index=False)
    labels[["job_id", "attribute_id", "label", "sentence"]].to_csv(folder / "all_labeled_data_1.csv", index=False)


@pytest.fixture(scope="module")
def chain(elsewhere) -> tuple[Path, str]:
    "A run from nothing, and what the command said."
    run = elsewhere / "a run"  # a path with a space in it
    return run, run_chain(run, cwd=elsewhere).stdout


def test_the_chain_makes_everything(chain):
    run, said = chain
    assert sorted(p.name for p in (run / "notebooks").iterdir()) == [f"{s}.ipynb" for s in STAGES]
    for stage in STAGES:
        made = record(run, stage)
        assert {"parameters", "inputs", "outputs", "versions", "device", "seconds", "metrics"} <= made.keys()
        changed = made["parameters"].keys() & {p.split("=")[0] for p in SMALL}
        assert changed, stage
        for name in changed:
            assert made["parameters"][name] == ast.literal_eval(dict(p.split("=") for p in SMALL)[name])
    metrics = json.loads((run / "full_pipeline" / "metrics.json").read_text())
    assert 0 <= metrics["golden.f1"] <= 1
    assert f"{metrics['golden.f1']:.3f}" in said and str(run / "full_pipeline" / "report.html") in said
    assert (run / "full_pipeline" / "report.html").stat().st_size > 1000 and (run / "model").is_dir()
    assert not [p for p in ROOT.glob("nbs/*.ipynb") if "papermill" in json.loads(p.read_text())["metadata"]]  # the sources are untouched


def test_a_second_call_skips_everything(chain, elsewhere):
    run, _ = chain
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    begin = time.monotonic()
    said = run_chain(run, cwd=elsewhere).stdout
    assert said.count("already done") == len(STAGES)
    assert time.monotonic() - begin < 20  # no kernel was started
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


def test_papermill_itself_takes_parameters_and_the_runner_notices(chain, elsewhere):
    run, _ = chain
    call("papermill", ROOT / "nbs" / "02_bi_eval.ipynb", "out.ipynb", "-p", "threshold", "0.9", "-p", "run", run, cwd=elsewhere)
    assert record(run, "02_bi_eval")["parameters"]["threshold"] == 0.9
    said = run_chain(run, "--stages", "02", cwd=elsewhere).stdout  # who names no threshold gets what stands there
    assert "threshold=0.9, as it was made" in said and record(run, "02_bi_eval")["parameters"]["threshold"] == 0.9
    said = run_chain(run, "--stages", "02", "-p", "threshold=0.5", cwd=elsewhere).stdout
    assert "already done" not in said and record(run, "02_bi_eval")["parameters"]["threshold"] == 0.5


def test_a_misspelt_parameter_or_source_is_an_error_before_anything_runs(elsewhere):
    done = call("jobmatch", "run", "--run", elsewhere / "none", "-p", "treshold=0.9", cwd=elsewhere, status=2)
    assert "no notebook has a parameter 'treshold'; did you mean threshold?" in done.stderr
    assert "05_full_pipeline: run, " in done.stderr and "Traceback" not in done.stderr
    done = call("jobmatch", "run", "--run", elsewhere / "none", "--source", "ecso", cwd=elsewhere, status=2)
    assert "--source ecso: neither esco nor onet nor a folder" in done.stderr and "Traceback" not in done.stderr
    assert not (elsewhere / "none").exists()


def test_a_failing_cell_is_shown_and_its_notebook_kept(elsewhere):
    run = elsewhere / "failing"
    (elsewhere / "bare").mkdir()
    done = call("jobmatch", "run", "--run", run, "--source", "bare", "--stages", "00", cwd=elsewhere, status=1)
    assert "00_data failed in cell" in done.stderr and str(elsewhere / "bare") in done.stderr
    assert str(run / "notebooks" / "00_data.ipynb") in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 15
    kept = json.loads((run / "notebooks" / "00_data.ipynb").read_text())
    assert kept["metadata"]["papermill"]["exception"] and not (run / "data" / "run.json").exists()


def test_a_stopped_run_goes_on(elsewhere):
    run = elsewhere / "stopped"
    words = [BIN / "jobmatch", "run", "--run", str(run), "--source", "own", "--stages", "00", *(w for p in SMALL for w in ("-p", p))]
    partial = run / "notebooks" / "00_data.partial.ipynb"
    for sign, status in [(signal.SIGINT, 130), (signal.SIGKILL, -9)]:
        partial.unlink(missing_ok=True)
        with subprocess.Popen(words, cwd=elsewhere, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
                              preexec_fn=heed_ctrl_c) as process:
            wait_until(lambda: partial.exists() and kernels_of(process.pid))
            kernels = kernels_of(process.pid)
            process.send_signal(sign)
            said = process.stderr.read()
            assert process.wait(60) == status and "Traceback" not in said
        wait_until(lambda kernels=kernels: not any(Path(f"/proc/{k}").exists() for k in kernels))  # no kernel works on unseen
        assert not (run / "notebooks" / "00_data.ipynb").exists()
    run_chain(run, "--stages", "00", cwd=elsewhere)
    assert (run / "notebooks" / "00_data.ipynb").exists() and not partial.exists()
    assert record(run, "00_data")["parameters"]["n_jobs"] == 12


def heed_ctrl_c():
    "A suite that a shell started in the background has SIGINT ignored, and its children too."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kernels_of(pid: int) -> list[int]:
    "The processes that a process started."
    return [int(k) for f in Path(f"/proc/{pid}/task").glob("*/children") for k in f.read_text().split()]


def wait_until(holds, seconds: float = 60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_the_parameters_tag_survives_nbdev_clean(tmp_path):
    "Without the tag papermill lets the defaults overwrite `-p` and says nothing."
    shutil.copy(ROOT / "settings.ini", tmp_path)
    (tmp_path / "nbs").mkdir()
    for stage in STAGES:
        shutil.copy(ROOT / "nbs" / f"{stage}.ipynb", tmp_path / "nbs")
    call("nbdev_clean", cwd=tmp_path)
    for stage in STAGES:
        cells = json.loads((tmp_path / "nbs" / f"{stage}.ipynb").read_text())["cells"]
        assert sum("parameters" in c["metadata"].get("tags", []) for c in cells) == 1, stage
    (tmp_path / "settings.ini").write_text((ROOT / "settings.ini").read_text().replace("allowed_cell_metadata_keys", "no_such_setting"))
    call("nbdev_clean", cwd=tmp_path)
    cells = json.loads((tmp_path / "nbs" / "00_data.ipynb").read_text())["cells"]
    assert not any(c["metadata"].get("tags") for c in cells)  # it is the setting that keeps it


def test_no_stage_mentions_a_folder_of_this_machine():
    home = os.path.expanduser("~")
    for stage in STAGES:
        text = (ROOT / "nbs" / f"{stage}.ipynb").read_text()
        assert str(ROOT) not in text and f"{home}/" not in text, stage
