"The feature store on a real Redis, shared by two machines; where `redis-server` and its client are installed (apt-get install redis-server; pip install 'feast[redis]')."

import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("feast")
redis = pytest.importorskip("redis", reason="no client of Redis; pip install 'feast[redis]'")

from jobmatch.live.drift import put_drift  # noqa: E402
from jobmatch.live.feature_store import DEFINITIONS, EmbeddingStore  # noqa: E402
from jobmatch.live.kafka import _free_port  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server; Debian has it: apt-get install redis-server")


@pytest.fixture
def server(tmp_path):
    "A Redis of its own: its port."
    port = _free_port()
    with subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        client, end = redis.Redis(port=port), time.monotonic() + 30
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < end, "Redis does not answer"
                time.sleep(0.1)
        yield port
        process.terminate()


def machine(folder: Path, port: int) -> EmbeddingStore:
    "A store whose folder has nothing but the settings, as a container mounts them."
    folder.mkdir()
    settings = (DEFINITIONS / "feature_store.redis.yaml").read_text()
    assert "127.0.0.1:6379" in settings
    (folder / "feature_store.yaml").write_text(settings.replace(":6379,", f":{port},"))
    return EmbeddingStore(folder)


def test_two_machines_share_what_is_stored_and_what_is_erased(server, tmp_path):
    one, two = (machine(tmp_path / name, server) for name in ("one", "two"))
    arrays = {f"{i:064d}": np.random.default_rng(i).standard_normal((1 + i % 5, 8), dtype=np.float32) for i in range(200)}
    one.put(arrays, "e1")
    found = two.get([*arrays, "unknown"], "e1")
    assert found.keys() == arrays.keys() and all((found[k] == a).all() for k, a in arrays.items())
    assert not two.get(list(arrays), "e2")
    later = datetime.now(timezone.utc) + timedelta(days=91)
    assert not two.get(list(arrays), "e1", now=later) and two.evict(later) == 0  # that is Redis' task:
    lives = [redis.Redis(port=server).ttl(key) for key in redis.Redis(port=server).keys()]
    assert lives and all(89 * 86_400 < life <= 90 * 86_400 for life in lives)
    first = next(iter(arrays))
    two.put({first: arrays[first]}, "e1")  # the same text came to the other machine
    two.remember([("job-1", first)], "e1")
    assert two.erase(["job-1"]) == 1 and len(one.get(list(arrays), "e1")) == 199 and two.erase(["job-1"]) == 0
    second, third = list(arrays)[1:3]
    one.remember([("edited", second)], "e1")
    one.remember([("edited", third)], "e1")
    new = machine(tmp_path / "new", server)  # it has embedded nothing yet
    assert new.erase(["edited"]) == 2 and len(one.get(list(arrays), "e1")) == 197
    put_drift(one, pd.DataFrame([dict(scope="board", statistic="chars", value=1.0, expected=2.0, shift=1.0, p=0.001, alarm=True)]))
    assert two.drift(["board", "agency"]) == {"board": 1, "agency": 0}


def test_a_redis_that_hangs_or_is_gone_is_an_error_within_seconds(server, tmp_path):
    "The worker goes on without the store then."
    store, process = machine(tmp_path / "one", server), redis.Redis(port=server).info()["process_id"]
    store.put({"a": np.ones((1, 8), dtype=np.float32)}, "e1")
    os.kill(process, signal.SIGSTOP)
    try:
        error = ThreadPoolExecutor(1).submit(store.get, ["a"], "e1").exception(30)
    finally:
        os.kill(process, signal.SIGCONT)
    assert isinstance(error, redis.TimeoutError)
    redis.Redis(port=server).shutdown(nosave=True)
    with pytest.raises(redis.ConnectionError):
        ThreadPoolExecutor(1).submit(store.get, ["a"], "e1").result(30)
