"A release through a real broker and a real registry: nobody sees the challenger at 0 %, it climbs, wins, and serves without a restart."

import json
import shutil
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jobmatch.core.runs import read_json, write_json
from jobmatch.core.matcher import Matcher
from jobmatch.live.canary import release_matching, run_check, start_canary
from jobmatch.live.contracts import FEEDBACK, JOBS, MATCHES, SHADOW, TOPICS, Record, canonical
from jobmatch.live.kafka import Broker, create_topics, read_topic, send
from jobmatch.live.log import open_log, run_log
from jobmatch.live.registry import find, open_registry, register, set_alias
from jobmatch.live.stream import JobMatching, Worker
from jobmatch.tiny import tiny_run

AD = "You weld pipes and test valves for leaks. You repair bicycles and sell spare parts to customers."
# as quick as the rails allow: what is judged is alike in both models, so every signal is clear early; both match every ad, so the 200 times that p95 needs come soon
PLAN = dict(steps=[dict(percent=p, ads=20, judged=0 if p else 10) for p in (0, 50, 100)], shadow=100, machine=1, errors=0.5, slower=20, match_rate=3,
            calibration=0.9, agreement=0.05, follow=0.5, grace=0, clear=0)  # no slow ad among 100 is clear enough


def models(folder: Path, registry: object) -> list[str]:
    "Register the tiny run's model, and the same with a threshold so low that it matches more."
    first = tiny_run() / "model"
    shutil.copytree(first, folder / "other")
    for model, version in ((folder / "other", "other"),):
        config = read_json(model / "matcher.json")
        write_json(model / "matcher.json", config | dict(thresholds=config["thresholds"] | dict(job=0.0), model_version=version))
    found = [register(m, registry) for m in (first, folder / "other")]
    for alias, version in zip(("champion", "challenger"), found):
        set_alias(alias, version, registry)
    return [read_json(m / "matcher.json")["model_version"] for m in (first, folder / "other")]


class Traffic:
    "Ads that are sent, and verdicts on what came of them."

    def __init__(self, server: str, log: Path):
        self.server, self.log, self.sent, self.judged = server, log, 0, set()

    def ads(self, n: int = 110) -> set[str]:
        "Send ads and wait for their matches, and for the log to have them; the ids."
        ids = [f"job-{self.sent + i}" for i in range(n)]
        self.sent += n
        send([Record(JOBS, j.encode(), canonical(dict(job_id=j, text=AD))) for j in ids], self.server)
        wait_for(lambda: set(ids) <= self.shown().keys())
        wait_for(lambda: set(ids) <= {j for j, in open_log(self.log).sql("select job_id from log").fetchall()})
        return set(ids)

    def shown(self) -> dict[str, dict]:
        "The matches that users see, by ad."
        values = [json.loads(r.value) for r in read_topic(MATCHES, self.server)]
        return {m["job_id"]: m for m in values}

    def verdicts(self) -> None:
        "Accept everything that either model found and nobody judged yet."
        found = set(open_log(self.log).sql("select distinct job_id, s.attribute_id from (select job_id, unnest(scores) as s from log union all select job_id, unnest(scores) from shadow)").fetchall())
        new, self.judged = found - self.judged, found
        row = lambda j, a: dict(job_id=j, attribute_id=a, verdict="accepted", who="ann", when=datetime.now(timezone.utc).isoformat(), share=0.5, authenticated=True)
        send([Record(FEEDBACK, j.encode(), canonical(row(j, a))) for j, a in sorted(new)], self.server)
        wait_for(lambda: len(open_log(self.log).sql("select * from feedback").fetchall()) == len(found))


def wait_for(holds, seconds: float = 180):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.fixture
def stage(tmp_path):
    "A broker, a registry with two versions, a worker that follows the alias, and the log."
    registry, stop = open_registry(f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}"), threading.Event()
    versions = models(tmp_path, registry)
    with Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at, partitions=1, topics=(*TOPICS, *SHADOW.values()))
        matching = release_matching(lambda folder: JobMatching([Matcher.load(folder)], top_n=3), registry=registry)
        matching.champion.every = matching.look.every = matching.every = 0.2
        worker = Worker(matching, at, max_batch=16, max_wait_ms=20)
        threads = [threading.Thread(target=worker.run), threading.Thread(target=run_log, args=(at, str(tmp_path / "log")), kwargs=dict(stop=stop, max_seconds=0.3))]
        for thread in threads:
            thread.start()
        yield at, registry, matching, versions, tmp_path
        stop.set()
        worker.stop()
        for thread in threads:
            thread.join(30)


def test_a_release_from_shadow_to_champion(stage):
    server, registry, matching, (champion, challenger), folder = stage
    log, traffic = folder / "log", Traffic(server, folder / "log")
    start_canary(folder=str(log), plan=write_json(folder / "plan.json", PLAN), every=0, registry=registry)
    end = time.monotonic() + 180
    while matching.challenger is None:
        assert time.monotonic() < end, "the challenger was not loaded"
        traffic.ads(2)
    ids = traffic.ads()
    assert {traffic.shown()[j]["model_version"] for j in ids} == {champion}
    hidden = [v for v, in open_log(log).sql("select model_version from shadow").fetchall()]
    assert set(hidden) == {challenger} and len(hidden) >= 20
    for _ in range(8):
        traffic.verdicts()
        state = run_check(log, registry)
        if state["status"] != "running":
            break
        time.sleep(0.5)  # the worker looks at the state
        traffic.ads()
    assert state["status"] == "promoted", state["record"]
    assert find("models:/jobmatch@champion", registry)["model_version"] == challenger
    while matching.serving != "models:/jobmatch/2":
        assert time.monotonic() < end + 240, "the worker did not follow the alias"
        traffic.ads(2)
    assert {traffic.shown()[j]["model_version"] for j in traffic.ads(5)} == {challenger}
    assert len(traffic.shown()) == traffic.sent
