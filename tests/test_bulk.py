"`jobmatch bulk`, killed and started again, ends with the files of a run that was left in peace."

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from jobmatch.cli import main
from jobmatch.core.runs import digest, read_json, root
from jobmatch.tiny import tiny_run

N, SIZE = 160, 5
SENTENCES = ["You weld pipes and test valves for leaks.", "You cook meals and order supplies.", "Repair engines and machinery.", "Prepare financial reports.",
             "We are a young team.", "Teach mathematics to children.", "You drive trucks across the country.", "Advise customers by telephone."]


def write_ads(folder: Path) -> Path:
    "Ads in three formats and two folders, with rows that cannot be used."
    rng = random.Random(7)
    ballast = f"<!-- {'x' * 20_000} -->"  # costs the model nothing, and fills the pipes to the workers
    ads = pd.DataFrame([dict(job_id=f"j{i}", text=" ".join(rng.sample(SENTENCES, 4)) + f" You manage {i} people. {ballast}") for i in range(N)])
    (folder / "more").mkdir(parents=True)
    ads[: N // 3].to_csv(folder / "a.csv", index=False)
    ads[N // 3 : N // 2].to_parquet(folder / "b.parquet")
    ads[N // 2 :].to_json(folder / "more" / "c.jsonl", orient="records", lines=True)
    with open(folder / "more" / "c.jsonl", "a") as f:
        f.write('{"job_id": "j5", "text": "Here again."}\n{"job_id": "none", "text": ""}\nno JSON\n')
    return folder


@pytest.fixture(scope="module")
def model() -> str:
    return str(tiny_run() / "model")


@pytest.fixture(scope="module")
def peace(model, tmp_path_factory) -> tuple[Path, dict]:
    "The ads, and the files of a run in one process that nothing disturbed."
    ads, out = write_ads(tmp_path_factory.mktemp("ads") / "ads"), tmp_path_factory.mktemp("peace") / "out"
    assert main(["bulk", str(ads), *words(out, model)]) == 0
    return ads, files(out)


def words(out: Path, model: str, device: str = "cpu") -> list[str]:
    return [str(out), "--model", model, "--device", device, "--threshold", "0.05", "--shard-size", str(SIZE)]


def start(ads: Path, *args: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jobmatch.cli", "bulk", str(ads), *args]
    return subprocess.Popen(command, cwd=root(), env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def parts(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (out / "matches").glob("part-*.parquet")}


def files(out: Path) -> dict[str, str]:
    "All that a finished run leaves, by digest; of the manifest what does not change from run to run."
    manifest = read_json(out / "manifest.json")
    assert manifest["status"] == "finished" and manifest["counts"]["ads"] == N and len(manifest["shards"]) == len(parts(out))
    assert not [p for p in out.rglob(".*") if p.name != ".lock"]
    return {p.relative_to(out).as_posix(): digest(p) for p in [*out.glob("matches/*"), out / "rejects.csv"]} | {k: digest(manifest[k]) for k in ("plan", "counts", "shards")}


def wait_for(process: subprocess.Popen, out: Path, n: int) -> None:
    deadline = time.monotonic() + 240
    while len(parts(out)) < n:
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process: subprocess.Popen) -> None:
    "SIGKILL a command; its workers end too."
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the command was done before the kill: the test tests nothing"
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=20)[1], "workers outlive their parent"


def test_peace_is_complete(peace, model):
    "Each ad once, all rejects with their place."
    ads, made = peace
    assert len([name for name in made if name.startswith("matches/")]) == N // SIZE


def test_killed_runs_end_with_the_same_bytes(peace, model, tmp_path, capsys):
    ads, out = peace[0], tmp_path / "out"
    seed = random.randrange(10**6)
    print("random moments from seed", seed)  # shown where the test fails
    rng = random.Random(seed)
    one = start(ads, *words(out, model))
    wait_for(one, out, rng.randint(1, 12))
    kill(one)
    before = parts(out)
    two = start(ads, *words(out, model, "cpu,cpu"))
    wait_for(two, out, len(before) + rng.randint(1, 8))
    kill(two)
    assert read_json(out / "manifest.json")["status"] == "running"
    between = parts(out)
    assert len(between) < N // SIZE
    assert main(["bulk", str(ads), *words(out, model)]) == 0
    assert files(out) == peace[1]
    after = parts(out)
    assert {name: after[name] for name in between} == between and {name: between[name] for name in before} == before, "finished parts were made again"
    capsys.readouterr()
    assert main(["bulk", str(ads), *words(out, model)]) == 0 and parts(out) == after
    assert f"{N} ads matched" in capsys.readouterr().out


def test_a_killed_worker_is_started_again(peace, model, tmp_path):
    out = tmp_path / "out"
    process = start(peace[0], *words(out, model, "cpu,cpu"))
    wait_for(process, out, 3)
    workers = [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    assert len(workers) == 2
    workers[1].kill()
    (out / "matches" / ".part-999999.1.tmp.parquet").write_bytes(b"what a worker leaves that is killed while it writes")
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "rejects:" in said and files(out) == peace[1]


def test_other_ads_or_limits_are_refused(peace, model, tmp_path, capsys):
    ads, out = write_ads(tmp_path / "ads"), tmp_path / "out"
    few = ["--model", model, "--device", "cpu", "--top-n", "1"]
    (ads / "a.csv").write_text("Job-ID,Body\n1,You weld pipes.\n")
    (ads / "b.parquet").unlink()
    (ads / "more" / "c.jsonl").unlink()
    assert main(["bulk", str(ads), str(out), *few]) == 2
    assert "has no column text; it has 'Job-ID', 'Body'" in capsys.readouterr().err and not out.exists()
    assert main(["bulk", str(ads), str(out), *few, "--column", "text=Body"]) == 0
    found = pd.read_parquet(out / "matches")
    assert found.job_id.tolist() == ["1"]
    (ads / "a.csv").write_text("Job-ID,Body\n1,You cook meals.\n")
    capsys.readouterr()
    assert main(["bulk", str(ads), str(out), *few, "--column", "text=Body", "--threshold", "0.5"]) == 2
    said = capsys.readouterr().err
    assert "threshold: 0.0 there, 0.5 now" in said and "inputs: changed: a.csv" in said and "Traceback" not in said
    assert pd.read_parquet(out / "matches").equals(found)


@pytest.mark.parametrize(("args", "says"), [
    (["--threshold", "2"], "a probability is between 0 and 1"), (["--top-n", "0"], "at least 1"), (["--shard-size", "0"], "at least 1"),
    (["--column", "text"], "write it as"), (["--device", "cuda:99"], "no device cuda:99 here"), (["--model", "nowhere"], "no model folder")])
def test_mistakes_are_said(peace, tmp_path, capsys, args, says):
    assert main(["bulk", str(peace[0]), str(tmp_path / "out"), "--device", "cpu", *args]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture
def cluster(monkeypatch):
    "A Ray cluster of two workers on this machine."
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else its workers starve beside those of other tests
    from ray.cluster_utils import Cluster

    memory = dict(object_store_memory=100 * 2**20)
    made = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, **memory))
    made.add_node(num_cpus=1, **memory)
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def test_ray_goes_on_without_a_killed_worker(peace, model, tmp_path, cluster):
    "The same files; the test takes about a minute, most of it the start of Ray."
    out = tmp_path / "out"
    process = start(peace[0], *words(out, model, "cpu,cpu"), "--engine", "ray")
    wait_for(process, out, 3)
    actors = [p for p in psutil.Process().children(recursive=True) if "ray::MapWorker" in " ".join(p.cmdline())]
    assert len(actors) == 2, actors
    actors[0].kill()
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert files(out) == peace[1]
