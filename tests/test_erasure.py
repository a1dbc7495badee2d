"An ad that is withdrawn: through a broker, a worker, the page that kept its text, and a log that is killed again and again, nothing made of its words is left on the disk."

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("confluent_kafka")
pytest.importorskip("feast")

from jobmatch.core.matcher import Matcher  # noqa: E402
from jobmatch.core.schema import content_hash  # noqa: E402
from jobmatch.live.contracts import FEEDBACK, JOBS, LOG, Record, canonical  # noqa: E402
from jobmatch.live.feature_store import EmbeddingStore  # noqa: E402
from jobmatch.live.feedback import kept_jobs  # noqa: E402
from jobmatch.live.kafka import Broker, create_topics, read_topic, send  # noqa: E402
from jobmatch.live.log import kept_texts, merge_log, open_log, withdrawn_ids  # noqa: E402
from jobmatch.live.review import Draw, candidates, text_of  # noqa: E402
from jobmatch.live.serve import FeedbackRequest, Reviewing, kafka_sink  # noqa: E402
from jobmatch.live.stream import EMBEDDED, JobMatching, Worker  # noqa: E402
from jobmatch.tiny import tiny_run  # noqa: E402


def wait_for(holds, seconds: float = 120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def texts(n: int) -> list[str]:
    "Short ads whose embedding goes into the log."
    found = (f"Vacancy {i}. You repair bicycles and sell spare parts to customers." for i in range(10_000))
    return [t for t in found if int(content_hash(t)[:8], 16) < EMBEDDED * 16**8][:n]


@pytest.fixture
def stream(tmp_path):
    "A broker, a worker with a feature store, and what sends ads: gives the address, the matching and the folder."
    store = EmbeddingStore(tmp_path / "store")
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=2)
        matching = JobMatching([Matcher.load(tiny_run() / "model")], store, top_n=3)
        worker = Worker(matching, at, max_wait_ms=20)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield at, matching, tmp_path / "log"
        worker.stop()
        thread.join(60)


class Log:
    "A `jobmatch log` of its own; a context manager that leaves none behind."

    def __init__(self, at: str, folder: Path):
        words = ["-m", "jobmatch.cli", "log", "--log", folder, "--bootstrap-servers", at]
        self.process = subprocess.Popen([sys.executable, *map(str, words)], stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()


def embedded(folder: Path) -> set[str]:
    "The ads whose embedding a file has, whether it counts or not."
    rows = [row for path in (folder / LOG).rglob("*.parquet") for row in pq.read_table(path, columns=["job_id", "embedding"]).to_pylist()]
    return {row["job_id"] for row in rows if row["embedding"]}


def test_a_withdrawn_ad_is_forgotten(stream):
    at, matching, folder = stream
    ads = {f"job-{i}": text for i, text in enumerate(texts(6))}
    send([Record(JOBS, j.encode(), canonical(dict(job_id=j, text=t))) for j, t in ads.items()], at)
    rows = lambda table: [j for (j,) in open_log(folder).sql(f"select job_id from {table}").fetchall()]
    names = dict(zip(matching.matcher.attributes.attribute_id, matching.matcher.attributes.name))
    page = Reviewing(matching.matcher, kafka_sink(at), keep_texts=folder, draw=Draw(folder, lambda ad: text_of(ad, {}, at), names))
    verdict = lambda job: page.feedback(FeedbackRequest(job_id=job, attribute_id=next(iter(names)), verdict="missing", who="ada"))
    kept = lambda: [json.loads(line)["job_id"] for line in kept_texts(folder)[0].read_text().splitlines()]
    with Log(at, folder):
        wait_for(lambda: set(rows("log")) == set(ads))
        shown = [page.review("ada")["job_id"]]
        verdict(shown[0])
        wait_for(lambda: rows("all_feedback") == shown)
        shown.append(page.review("ada")["job_id"])
        verdict(shown[1])
        wait_for(lambda: sorted(rows("all_feedback")) == sorted(shown))
    assert kept() == shown and embedded(folder) == set(ads)

    gone, unjudged = shown[0], page.review("eve")["job_id"]
    send([Record(JOBS, j.encode(), None) for j in (gone, unjudged)], at)
    wait_for(lambda: sum(r.value is None for r in read_topic(LOG, at)) == 2)
    for _ in range(3):  # killed while it starts, joins, or writes
        with Log(at, folder) as log:
            end = time.monotonic() + 25
            while gone in kept() and time.monotonic() < end and log.process.poll() is None:
                time.sleep(0.01)
    with Log(at, folder):
        wait_for(lambda: kept() == shown[1:])
        wait_for(lambda: withdrawn_ids(open_log(folder)) == {gone, unjudged})
    assert not {gone, unjudged} & set(candidates(folder, "bob").job_id)
    assert not matching.store.get([content_hash(ads[gone])], matching.encoder)
    for _ in range(2):  # the second one removes what the first one merged
        merge_log(folder, before="9999-12-31", grace=-1)
    assert embedded(folder) == set(ads) - {gone, unjudged} and sorted(rows("log")) == sorted(ads)  # the numbers stay

    verdict(unjudged)  # the page had offered it before
    assert unjudged in kept() and kept_jobs(folder).job_id.tolist() == shown[1:]
    with Log(at, folder):  # its day begins, as at midnight
        wait_for(lambda: kept() == shown[1:])
    send([Record(JOBS, gone.encode(), canonical(dict(job_id=gone, text=ads[gone])))], at)  # it is sent again, as a new ad
    with Log(at, folder):
        wait_for(lambda: withdrawn_ids(open_log(folder)) == {unjudged})
    assert len(read_topic(FEEDBACK, at)) == 3
