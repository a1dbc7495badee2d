"A data stage ends with the same files whatever number of workers makes them, and however often it was killed and started again."

import errno
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jobmatch.core.runs import digest, read_json, root
from jobmatch.core.shards import map_shards

ARGUMENTS = ["--source", "onet", "--n_jobs", "300", "--shard_size", "4", "--seed", "7"]


def start(run, workers, arguments=ARGUMENTS):
    command = [sys.executable, "-m", "jobmatch.data", str(run), *arguments, "--n_workers", str(workers)]
    return subprocess.Popen(command, cwd=root(), env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(run, workers, arguments=ARGUMENTS):
    process = start(run, workers, arguments)
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


def finished_shards(run, where="data/shards"):
    return {p.name: p.stat().st_mtime_ns for p in (run / where).glob("[!.]*-*") if p.is_dir()}


def write_folder(folder):
    "Sixty ads in users' files, with labels that quote, that quote what is not there, and that say nothing of the place; one ad has no text."
    trades = ["weld steel pipes", "bake bread and rolls", "drive heavy lorries", "sell shoes to customers"]
    folder.mkdir()
    (folder / "Defs.tsv").write_text("attribute_id\tname\n" + "".join(f"a{i}\t{t}\n" for i, t in enumerate(trades)))
    ads = [f"Shop {i} hires!\nYou {trades[i % 4]} in shop {i}. You like team {i}.\n<b>Apply</b> by mail." for i in range(60)]
    (folder / "jobs.csv").write_text("job_id,text\n" + "".join(f'j{i},"{"" if i == 33 else ad}"\n' for i, ad in enumerate(ads)))
    quotes = ["You {0} in shop {1}.", "", "You {0} by the sea."]
    rows = [f"j{i},a{i % 4},1,{quotes[i % 3].format(trades[i % 4], i)}\nj{i},a{(i + 1) % 4},0,You like team {i}.\n" for i in range(60)]
    (folder / "all_labeled_data_1.csv").write_text("job_id,attribute_id,label,sentence\n" + "".join(rows))


def test_the_number_of_workers_does_not_show(tmp_path):
    write_folder(tmp_path / "mine")
    found = {}
    for workers, shard_size in ((0, 100), (1, 7), (3, 4)):
        run = tmp_path / f"{workers}-{shard_size}"
        finish(run, workers, ["--source", str(tmp_path / "mine"), "--shard_size", str(shard_size)])
        found[workers, shard_size] = final_files(run), read_json(run / "data" / "run.json")["metrics"]
    assert len(found[0, 100][0]) == 14 and found[0, 100][1]["rejects"] == 3 + 20  # the ad without text and its labels, and quotes that are not there
    assert all(f == found[0, 100] for f in found.values())


def write_items(items, folder):
    "Writes a shard; that of item 5 goes to a full disk until there is a file `room`."
    full = 5 in items and not (folder.parents[1] / "room").exists()
    with open("/dev/full" if full else folder / "items", "w") as file:
        file.write(f"{items}")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_that_finds_the_disk_full_says_so(tmp_path, workers):
    make = lambda: map_shards(range(12), write_items, tmp_path / "shards", key={}, shard_size=2, n_workers=workers)
    with pytest.raises(OSError) as error:
        make()
    assert error.value.errno == errno.ENOSPC
    assert not list((tmp_path / "shards").glob(".*.tmp")) and not list((tmp_path / "shards").glob("000002-*"))
    before = finished_shards(tmp_path, "shards")
    assert {name[:6] for name in before} >= {"000000", "000001"}
    (tmp_path / "room").touch()
    assert [(s / "items").read_text() for s in make()] == [f"[{i}, {i + 1}]" for i in range(0, 12, 2)]
    assert before.items() <= finished_shards(tmp_path, "shards").items()


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
