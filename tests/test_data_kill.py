"A data stage that is killed with SIGKILL and started again ends with the files of one that was left in peace."

import os
import random
import signal
import subprocess
import sys
import time

import psutil

from jobmatch.core.runs import digest, root

ARGUMENTS = ["--source", "onet", "--n_jobs", "300", "--shard_size", "4", "--seed", "7"]


def start(run, workers):
    command = [sys.executable, "-m", "jobmatch.data", str(run), *ARGUMENTS, "--n_workers", str(workers)]
    return subprocess.Popen(command, cwd=root(), env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(run, workers):
    process = start(run, workers)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors.decode()


def kill_when(process, reached, delay):
    "SIGKILL the process some time after a point, and see that its workers end too."
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, f"ended before it was killed: {process.stderr.read().decode()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process was done before the kill: the test tests nothing"
    process.stderr.close()
    assert not psutil.wait_procs(workers, timeout=20)[1], "workers outlive their parent"


def final_files(run):
    return {p.name: digest(p) for p in (run / "data").glob("*.*") if p.suffix in (".parquet", ".pkl", ".csv")}


def finished_shards(run):
    return {p.name: p.stat().st_mtime_ns for p in (run / "data" / "shards").glob("[!.]*-*")}


def test_killed_runs_end_with_the_same_bytes(tmp_path):
    peace, killed = tmp_path / "peace", tmp_path / "killed"
    finish(peace, workers=0)
    rng = random.Random()
    seed = rng.randrange(10**6)
    print("random moments from seed", seed)  # shown where the test fails
    rng.seed(seed)
    data = killed / "data"
    kill_when(start(killed, 2), lambda: (data / "shards" / "manifest.json").exists(), rng.uniform(0, 1))
    enough = rng.randint(5, 40)
    kill_when(start(killed, 0), lambda: len(finished_shards(killed)) >= enough, rng.uniform(0, 0.05))
    before = finished_shards(killed)
    kill_when(start(killed, 2), lambda: len(finished_shards(killed)) >= min(enough + 20, 70), rng.uniform(0, 0.05))
    after = finished_shards(killed)
    redone = [name for name, when in before.items() if after.get(name) != when]
    assert len(redone) <= 1, "finished shards were made again"  # the kill may fall between a shard and its note in the manifest
    kill_when(start(killed, 0), lambda: (data / "sentences.parquet").exists(), rng.uniform(0, 0.02))
    assert not (data / "run.json").exists()
    finish(killed, workers=2)
    assert (data / "run.json").exists() and not (data / "shards").exists()
    assert final_files(killed) == final_files(peace) and len(final_files(peace)) == 13
