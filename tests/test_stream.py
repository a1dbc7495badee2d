"""Streams across processes: workers killed, the broker stopped, a batch longer than the group's patience, exactly once on a real Kafka.

JOBMATCH_FULL=1 runs the fault test at its full size (2,000 ads, 20 kills; about five minutes). JOBMATCH_KAFKA=host:port names a complete
Kafka (`docker compose up -d kafka`) for the test of transactions, which the embedded broker does not keep whole.
"""

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytest.importorskip("confluent_kafka")

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient  # noqa: E402

from jobmatch.core.runs import root  # noqa: E402
from jobmatch.core.matcher import Matcher  # noqa: E402
from jobmatch.live import kafka  # noqa: E402
from jobmatch.live.contracts import DEAD, MATCHES, TOPICS, Record  # noqa: E402
from jobmatch.live.kafka import Broker, create_topics, read_topic, send  # noqa: E402
from jobmatch.live.stream import JobMatching, Worker  # noqa: E402
from jobmatch.tiny import tiny_run  # noqa: E402

sys.path.insert(0, str(root() / "benchmarks"))
from stream_faults import exactly_once_test, fault_test  # noqa: E402
from streams import WorkerProcess, ad, model_folder, short_ads  # noqa: E402

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


class Child(WorkerProcess):
    "A worker of `stream_child.py`: no model, but ads that it does not survive."

    started: list["Child"] = []

    def __init__(self, bootstrap_servers: str, folder: Path, grace: float = 30, longest: float = 900):
        self.start(folder, [sys.executable, str(Path(__file__).with_name("stream_child.py")), bootstrap_servers, str(grace), str(longest)])
        self.started.append(self)

    def health(self, path: str) -> int:
        "The status that an orchestrator gets."
        try:
            with urlopen(f"http://127.0.0.1:{self.wait_for('health')['port']}/{path}") as answer:
                return answer.status
        except HTTPError as e:
            return e.code


@pytest.fixture(autouse=True)
def no_children_left():
    "A test that fails leaves no worker behind."
    yield
    while Child.started:
        Child.started.pop().kill()


def keys_of(topic: str, at: str, n: int, seconds: float = 120) -> set[bytes]:
    "The keys of a topic, once there are n of them."
    end = time.monotonic() + seconds
    while len(found := {r.key for r in read_topic(topic, at)}) < n and time.monotonic() < end:
        time.sleep(0.3)
    return found


def test_an_ad_that_kills_is_set_aside_after_three_tries(tmp_path):
    "Three workers die of a segmentation fault; the fourth sets the ad aside, and everything around it is matched."
    killer, ads = ad("killer", "This one segfaults."), [ad(f"good-{i}", "Weld.") for i in range(20)]
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        send([*ads[:5], killer, *ads[5:]], at)
        assert [Child(at, tmp_path).process.wait(60) for _ in range(3)] == [-signal.SIGSEGV] * 3
        assert not read_topic(DEAD, at)
        survivor = Child(at, tmp_path)
        assert keys_of(MATCHES, at, 20) == {r.key for r in ads}
        assert survivor.stop() == 0
        (letter,) = read_topic(DEAD, at)
    assert (letter.value, letter.headers["reason"]) == (killer.value, "cannot be matched: 3 workers died or hung on it")


def test_a_broken_machine_uses_up_no_tries(tmp_path):
    "Errors end the process with a status as often as it is started; the ad waits for a machine that works."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        send([ad("innocent", "The machine fails.")], at)
        assert [Child(at, tmp_path).process.wait(60) for _ in range(4)] == [1] * 4
        assert not read_topic(DEAD, at) and not read_topic(MATCHES, at)
        worker = Worker(lambda records: [(r, Record(MATCHES, r.key, b"matched")) for r in records], at)
        done = ThreadPoolExecutor(1).submit(worker.run)
        assert keys_of(MATCHES, at, 1) == {b"innocent"}
        worker.stop()
        done.result(60)


def test_an_ad_that_hangs_ends_the_drain_and_is_set_aside(tmp_path):
    "A worker that is told to stop and cannot finish ends with a status, nothing committed; the third time was the last."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        send([ad("endless", "This one hangs.")], at)
        for _ in range(3):
            worker = Child(at, tmp_path, grace=0.5)
            worker.wait_for("assigned")
            time.sleep(1)
            assert worker.stop(20) == 1 and worker.events("left while it was computing")
            assert not read_topic(DEAD, at)
        survivor = Child(at, tmp_path)
        assert keys_of(DEAD, at, 1) == {b"jobs/0/0"}
        assert survivor.stop() == 0


def test_a_worker_whose_computing_hangs_ends(tmp_path):
    "It polls on and stays in its group until the batch has taken too long; the one that follows tries the ad, hangs, and ends too, and the third was the last."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        first = Child(at, tmp_path, longest=3)
        first.wait_for("assigned")
        assert (first.health("healthz"), first.health("readyz")) == (200, 200)
        send([ad("endless", "This one hangs.")], at)
        for i in range(3):
            worker = Child(at, tmp_path, longest=3) if i else first
            assert worker.process.wait(120) == 1 and worker.events("left while it was computing")
            assert not read_topic(DEAD, at)
        survivor = Child(at, tmp_path)
        assert keys_of(DEAD, at, 1) == {b"jobs/0/0"}
        assert survivor.stop() == 0


def test_an_answer_that_no_broker_takes_ends_the_worker(tmp_path):
    "A topic that is refused for good is not tried for ever: the process ends with a status, and the ad waits for a worker that is set up well."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        send([ad("one", "Weld."), ad("two", "This one is misdirected.")], at)  # in one batch, whose second record may be refused by the client itself
        for _ in range(2):
            worker = Child(at, tmp_path)
            assert worker.process.wait(60) == 1
            assert worker.events("not delivered")[0]["error"] in ("TOPIC_EXCEPTION", "_UNKNOWN_TOPIC") and not worker.events("committed")
        worker = Worker(lambda records: [(r, Record(MATCHES, r.key, b"matched")) for r in records], at)
        done = ThreadPoolExecutor(1).submit(worker.run)
        assert keys_of(MATCHES, at, 2) == {b"one", b"two"} and not read_topic(DEAD, at)
        worker.stop()
        done.result(60)


def test_on_a_kafka_that_is_not_embedded(monkeypatch):
    """Topics have 64 partitions, and a worker with a name of its own is known by it in the group: on a broker of another name, which stands for
    a complete Kafka. That it keeps its partitions over a restart, the embedded broker cannot show."""
    with Broker() as broker:
        monkeypatch.setattr(kafka, "EMBEDDED", "the embedded one")
        at = broker.bootstrap_servers
        create_topics(at)
        found = AdminClient({"bootstrap.servers": at}).list_topics(timeout=10).topics
        assert {t: len(found[t].partitions) for t in TOPICS} == dict.fromkeys(TOPICS, 64)
        joined = []
        monkeypatch.setattr("jobmatch.live.stream.Consumer", lambda settings: joined.append(settings) or Consumer(settings))
        worker = Worker(lambda records: [(r, Record(MATCHES, r.key, b"matched")) for r in records], at, instance="worker-3", max_wait_ms=20)
        assert joined[0]["group.instance.id"] == "worker-3" and joined[0]["partition.assignment.strategy"] == "cooperative-sticky"
        done = ThreadPoolExecutor(1).submit(worker.run)
        send([ad(f"job-{i}", "Weld.") for i in range(100)], at)
        assert len(keys_of(MATCHES, at, 100)) == 100 and worker.state()["ready"]
        worker.stop()
        done.result(60)


def test_partitions_that_were_lost(tmp_path):
    "A worker that stood still for longer than the group waits has lost its partitions: it commits nothing for them, and goes on as a member."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        first = Child(at, tmp_path)
        first.wait_for("assigned")
        send([ad(f"job-{i}", "Weld." if i else "This one naps.") for i in range(20)], at)
        time.sleep(1)
        first.process.send_signal(signal.SIGSTOP)
        second = Child(at, tmp_path)
        assert len(keys_of(MATCHES, at, 20)) == 20
        first.process.send_signal(signal.SIGCONT)
        end = time.monotonic() + 60
        while not (first.events("lost") or first.events("not committed")) and time.monotonic() < end:
            time.sleep(0.2)
        assert first.events("lost") or first.events("not committed")
        assert not first.events("committed")
        send([ad(f"later-{i}", "Weld.") for i in range(5)], at)
        assert len(keys_of(MATCHES, at, 25)) == 25
        assert [first.stop(), second.stop()] == [0, 0]
        assert not read_topic(DEAD, at)


def test_what_the_broker_finds_too_large_becomes_one_letter():
    "Matches that are too large become a dead letter, a letter that is too large is cut, and each is sent once."
    sizes = {b"small": 10, b"large": 300_000}
    process = lambda records: [(r, Record(MATCHES, r.key, b"x" * sizes[r.key])) for r in records]
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        send([ad("small", "Weld."), ad("large", "Weld. " * 40_000)], at)
        worker = Worker(process, at, client={"message.max.bytes": "200000"}, max_batch=4)
        done = ThreadPoolExecutor(1).submit(worker.run)
        assert keys_of(DEAD, at, 1) == {b"jobs/0/1"} and keys_of(MATCHES, at, 1) == {b"small"}
        time.sleep(1)  # for a second letter to show, if there were one
        worker.stop()
        done.result(60)
        (letter,) = read_topic(DEAD, at)
    assert letter.headers["reason"] == "job-matches: 300000 bytes are more than the broker takes"
    assert len(letter.value) == 100_000 and int(letter.headers["cut"]) > 240_000


def test_a_worker_that_joins_takes_only_what_it_gets(tmp_path):
    "With cooperative assignment the first worker gives up half of its partitions, and keeps the others all the while."
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=4)
        first = Child(at, tmp_path)
        first.wait_for("assigned")
        second = Child(at, tmp_path)
        end = time.monotonic() + 90
        while not any(e["partitions"] for e in second.events("assigned")) and time.monotonic() < end:
            time.sleep(0.3)
        given, taken = ([p for e in events for p in e["partitions"]] for events in (first.events("revoked"), second.events("assigned")))
        assert sorted(given) == sorted(taken) and len(given) == 2
        send([ad(f"job-{i}", "Weld.") for i in range(40)], at)
        assert len(keys_of(MATCHES, at, 40)) == 40
        assert [first.stop(), second.stop()] == [0, 0]


class Unlucky(Producer):
    "A real producer whose first commit ends in an error, before or after it came through; takes no timeouts."

    def __init__(self, settings: dict, error: KafkaError, came_through: bool):
        super().__init__(settings)
        self.error, self.came_through, self.aborted = error, came_through, 0

    def commit_transaction(self) -> None:
        error, self.error = self.error, None
        if error is None or self.came_through:
            super().commit_transaction()
        if error:
            raise KafkaException(error)

    def abort_transaction(self) -> None:
        self.aborted += 1
        super().abort_transaction()


FENCED = KafkaError(KafkaError.PRODUCER_FENCED, fatal=True)
SLOW = KafkaError(KafkaError._TIMED_OUT, retriable=True)
BROKEN = KafkaError(KafkaError.INVALID_TXN_STATE, txn_requires_abort=True)
CASES = [(FENCED, True, True, 0), (SLOW, False, False, 0), (BROKEN, False, False, 1)]


@pytest.mark.parametrize(("error", "came_through", "renewed", "aborted"), CASES)
def test_errors_of_a_commit(error, came_through, renewed, aborted):
    """Exactly once: after a fatal error a new producer goes on, one that timed out is asked again, one that must be aborted is. What came
    through is not written again."""
    process = lambda records: [(r, Record(MATCHES, r.key, b"matched")) for r in records]
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        worker = Worker(process, at, delivery="exactly_once")
        first = worker.producer = Unlucky(worker.writing, error, came_through)
        done = ThreadPoolExecutor(1).submit(worker.run)
        for name in ("one", "two"):
            send([ad(name, "Weld.")], at)
            keys_of(MATCHES, at, 1 if name == "one" else 2, 60)
        time.sleep(1)  # for repeats to show, if there were any
        worker.stop()
        done.result(60)
        keys = [r.key for r in read_topic(MATCHES, at)]
    assert (worker.producer is not first, first.aborted) == (renewed, aborted)
    assert set(keys) == {b"one", b"two"}
    assert aborted or len(keys) == 2  # the embedded broker may show records of aborted transactions


def test_a_producer_that_the_broker_fenced():
    "Exactly once: where another producer took its name, the worker goes on with a new one."
    process = lambda records: [(r, Record(MATCHES, r.key, b"matched")) for r in records]
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1)
        worker = Worker(process, at, delivery="exactly_once")
        first = worker.producer
        done = ThreadPoolExecutor(1).submit(worker.run)
        send([ad("one", "Weld.")], at)
        assert keys_of(MATCHES, at, 1) == {b"one"}
        Producer(worker.writing).init_transactions(30)
        send([ad("two", "Weld.")], at)
        assert keys_of(MATCHES, at, 2, 60) == {b"one", b"two"}
        worker.stop()
        done.result(60)
    assert worker.producer is not first


@pytest.mark.skipif(not KAFKA, reason="JOBMATCH_KAFKA names no Kafka with whole transactions (docker compose up -d kafka)")
def test_exactly_once():
    exactly_once_test(tiny_run() / "model", KAFKA)
