"A release through a real broker and a real registry: nobody sees the challenger at 0 %, it climbs, wins, and serves without a restart."

import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from jobmatch.live.canary import SHADOW, read_records, release_matching, run_check, start_canary
from jobmatch.core.runs import read_json, write_json
from jobmatch.full_pipeline import Matcher
from jobmatch.live.contracts import FEEDBACK, JOBS, LOG, MATCHES, TOPICS, Record, canonical
from jobmatch.live.kafka import Broker, create_topics, read_topic, send
from jobmatch.live.registry import find, open_registry, register, set_alias
from jobmatch.live.stream import JobMatching, Worker
from jobmatch.tiny import tiny_run

pytestmark = pytest.mark.skipif(not os.environ.get("JOBMATCH_SLOW"), reason="minutes of traffic, and latencies that a busy machine blurs: JOBMATCH_SLOW=1")

AD = "You weld pipes and test valves for leaks. You repair bicycles and sell spare parts to customers."
# as quick as the rails allow: what is judged is alike in both models, so every signal is clear early
PLAN = dict(steps=[dict(percent=p, ads=20, judged=10 if p else 0) for p in (0, 50, 100)], shadow=50, machine=1, errors=0.5, slower=20, match_rate=3,
            calibration=0.9, agreement=0.05, clear=0)  # no slow ad among 100 is clear enough


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

    def __init__(self, server: str):
        self.server, self.sent, self.judged = server, 0, set()

    def ads(self, n: int = 150) -> set[str]:
        "Send ads and wait for their matches; the ids."
        ids = [f"job-{self.sent + i}" for i in range(n)]
        self.sent += n
        send([Record(JOBS, j.encode(), canonical(dict(job_id=j, text=AD))) for j in ids], self.server)
        end = time.monotonic() + 60
        while set(ids) - self.shown().keys():
            assert time.monotonic() < end, f"{len(set(ids) - self.shown().keys())} ads without an answer"
            time.sleep(0.2)
        return set(ids)

    def shown(self) -> dict[str, dict]:
        "The matches that users see, by ad."
        values = [json.loads(r.value) for r in read_topic(MATCHES, self.server)]
        return {m["job_id"]: m for m in values}

    def verdicts(self) -> None:
        "Accept everything that was shown and not judged yet."
        logged = {d["job_id"]: d for d in (json.loads(r.value) for r in read_topic(LOG, self.server))}
        new = [(j, s["attribute_id"]) for j, d in logged.items() if j not in self.judged for s in d["scores"]]
        self.judged |= logged.keys()
        row = lambda j, a: dict(job_id=j, attribute_id=a, verdict="accepted", who="ann", when="2026-01-05T10:00:00Z")
        send([Record(FEEDBACK, j.encode(), canonical(row(j, a))) for j, a in new], self.server)


@pytest.fixture
def stage(tmp_path):
    "A broker, a registry with two versions, and a worker that follows the alias."
    registry = open_registry(f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}")
    versions = models(tmp_path, registry)
    with Broker() as broker:
        create_topics(broker.bootstrap_servers, partitions=1, topics=(*TOPICS, *SHADOW.values()))
        matching = release_matching(lambda folder: JobMatching([Matcher.load(folder)], top_n=3), path=tmp_path / "state.json", registry=registry)
        matching.champion.every = matching.every = 0.2
        worker = Worker(matching, broker.bootstrap_servers, max_batch=16, max_wait_ms=20)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield broker.bootstrap_servers, registry, matching, versions, tmp_path
        worker.stop()
        thread.join(30)


def test_a_release_from_shadow_to_champion(stage):
    server, registry, matching, (champion, challenger), folder = stage
    plan, path, traffic = write_json(folder / "plan.json", PLAN), folder / "state.json", Traffic(server)
    start_canary(path=path, plan=plan, every=0, bootstrap_servers=server, registry=registry)
    end = time.monotonic() + 60
    while matching.challenger is None:
        assert time.monotonic() < end, "the challenger was not loaded"
        traffic.ads(2)
    ids = traffic.ads()
    assert {traffic.shown()[j]["model_version"] for j in ids} == {champion}
    hidden = [json.loads(r.value)["model_version"] for r in read_records(server)[SHADOW[LOG]]]
    assert set(hidden) == {challenger} and len(hidden) >= 20
    for _ in range(8):
        state = run_check(path, server, registry=registry)
        if state["status"] != "running":
            break
        time.sleep(0.5)  # the worker looks at the state
        traffic.ads()
        traffic.verdicts()
    assert state["status"] == "promoted", state["record"]
    assert find("models:/jobmatch@champion", registry)["model_version"] == challenger
    while matching.serving != "models:/jobmatch/2":
        assert time.monotonic() < end + 120, "the worker did not follow the alias"
        traffic.ads(2)
    assert {traffic.shown()[j]["model_version"] for j in traffic.ads(5)} == {challenger}
    assert len(traffic.shown()) == traffic.sent
