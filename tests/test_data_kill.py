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
    return {p.name: p.stat().st_mtime_ns for p in (run / "data" / "shards").glob("[!.]*-*") if p.is_dir()}


def test_killed_runs_end_with_the_same_bytes(tmp_path):
    peace, killed = tmp_path / "peace", tmp_path / "killed"
    finish(peace, workers=0)
    rng = random.Random()
    seed = rng.randrange(10**6)
    print("random moments from seed", seed)  # shown where the test fails
    rng.seed(seed)
    data = killed / "data"
    kill_when(start(killed, 2), lambda: (data / "shards").exists(), rng.uniform(0, 1))
    enough = rng.randint(5, 40)
    kill_when(start(killed, 0), lambda: len(finished_shards(killed)) >= enough, rng.uniform(0, 0.05))
    before = finished_shards(killed)
    kill_when(start(killed, 2), lambda: len(finished_shards(killed)) >= min(enough + 20, 70), rng.uniform(0, 0.05))
    after = finished_shards(killed)
    redone = [name for name, when in before.items() if after.get(name) != when]
    assert len(redone) <= 1, "finished shards were made again"  # the kill may fall between a shard and its note
    kill_when(start(killed, 0), lambda: (data / "sentences.parquet").exists(), rng.uniform(0, 0.02))
    assert not (data / "run.json").exists()
    finish(killed, workers=2)
    assert (data / "run.json").exists() and not (data / "shards").exists()
    assert final_files(killed) == final_files(peace) and len(final_files(peace)) == 14


def test_a_worker_that_dies_is_said_and_costs_its_shards_only(tmp_path):
    peace, hurt = tmp_path / "peace", tmp_path / "hurt"
    finish(peace, workers=0)
    process = start(hurt, 2)
    while len(finished_shards(hurt)) < 10:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    worker = next(c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline()))
    worker.kill()
    errors = process.communicate(timeout=300)[1].decode()
    assert process.returncode != 0 and "a worker process died" in errors, errors
    finish(hurt, workers=2)
    assert final_files(hurt) == final_files(peace)


def test_a_full_disk_is_an_error_and_the_work_goes_on_where_there_is_room(tmp_path):
    "A limit on the size of a file stands for the disk: the write fails in the same place, with EFBIG instead of ENOSPC."
    peace, full = tmp_path / "peace", tmp_path / "full"
    finish(peace, workers=0)
    largest = max(p.stat().st_size for p in (peace / "data").glob("*.parquet"))
    limited = f"import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, ({largest // 2},) * 2); " \
              f"sys.argv = ['data', {str(full)!r}, *{ARGUMENTS!r}, '--n_workers', '0']; runpy.run_module('jobmatch.data', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", limited], cwd=root(), env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "too large" in done.stderr.lower(), done.stderr[-2000:]
    assert not (full / "data" / "run.json").exists() and not list((full / "data").glob(".*.tmp*"))
    finish(full, workers=0)
    assert final_files(full) == final_files(peace)
