"""Streams across processes: workers killed, the broker stopped, a batch longer than the group's patience, exactly once on a real Kafka.

JOBMATCH_FULL=1 runs the fault test at its full size (2,000 ads, 20 kills; about five minutes). JOBMATCH_KAFKA=host:port names a complete
Kafka (`docker compose up -d kafka`) for the test of transactions, which the embedded broker does not keep whole.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("confluent_kafka")

from jobmatch.core.runs import root  # noqa: E402
from jobmatch.core.matcher import Matcher  # noqa: E402
from jobmatch.live.contracts import MATCHES  # noqa: E402
from jobmatch.live.kafka import Broker, create_topics, read_topic, send  # noqa: E402
from jobmatch.live.stream import JobMatching, Worker  # noqa: E402
from jobmatch.tiny import tiny_run  # noqa: E402

sys.path.insert(0, str(root() / "benchmarks"))
from stream_faults import exactly_once_test, fault_test  # noqa: E402
from streams import model_folder, short_ads  # noqa: E402

FULL = bool(os.environ.get("JOBMATCH_FULL"))
KAFKA = os.environ.get("JOBMATCH_KAFKA")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    "Several workers on few cores: one computing thread each."
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_nothing_is_lost_when_workers_die():
    sizes = dict(n_ads=2000, n_bad=300, n_kills=20, pause=8) if FULL else dict(n_ads=60, n_bad=48, n_kills=2, pause=2, sample=10)
    found = fault_test(model_folder() if FULL else tiny_run() / "model", **sizes)
    assert found["lost"] == found["differing"] == 0
    assert found["matched"] == found["good"] == sizes["n_ads"] and found["dead"] == sizes["n_bad"]
    assert found["kills"] == sizes["n_kills"] and found["kinds_of_bad"] >= 12


def test_a_batch_longer_than_the_group_waits():
    "Polling goes on while a batch computes: the worker keeps its partitions, and reading pauses when the buffer is full."
    model = tiny_run() / "model"
    matching, seen = JobMatching([Matcher.load(model)]), []

    def slowly(records):
        seen.append(len(records))
        time.sleep(8 if len(seen) == 1 else 0)  # the embedded broker's groups wait 6 s
        return matching(records)

    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at)
        send(short_ads(model, 30, 1), at)
        worker = Worker(slowly, at, max_batch=4)
        done = ThreadPoolExecutor(1).submit(worker.run)
        deadline = time.monotonic() + 120
        while not seen and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)
        assert worker.paused and len(worker.buffer) < 30
        while len(out := read_topic(MATCHES, at)) < 30 and time.monotonic() < deadline:
            time.sleep(0.3)
        worker.stop()
        done.result(60)
    assert len(out) == len({r.key for r in out}) == 30  # nothing was done twice, so no partition was taken away
    assert 'jobmatch_errors_total{kind="lost"}' not in worker.metrics.text().decode()
    assert max(seen) <= 4


@pytest.mark.skipif(not KAFKA, reason="JOBMATCH_KAFKA names no Kafka with whole transactions (docker compose up -d kafka)")
def test_exactly_once():
    exactly_once_test(tiny_run() / "model", KAFKA)
