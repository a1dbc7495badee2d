"The loop across processes: an alert on the topic starts a retraining, which is killed, and the next alert's goes on."

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psutil
import pytest

from jobmatch.core.matcher import Matcher
from jobmatch.core.runs import read_frame, read_json, write_json
from jobmatch.core.sources import load_source
from jobmatch.live.contracts import ALERTS, DEAD, FEEDBACK, JOBS, LOG, Record
from jobmatch.live.feedback import is_held
from jobmatch.live.kafka import Broker, create_topics, read_topic, send
from jobmatch.live.log import write_log
from jobmatch.live.registry import open_registry, register, set_alias
from jobmatch.live.stream import JobMatching
from jobmatch.tiny import tiny_run

SMALL = ["bi_train.epochs=0", "cross_train.epochs=0", "max_sentences=10", "max_lines=10", "small=10", "n_workers=0", "top_k=5"]


def wait_for(holds, seconds: float = 1800):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.5)


def records(topic: str, messages: list[dict]) -> list[Record]:
    return [Record(topic, b"", json.dumps(m).encode(), partition=0, offset=i) for i, m in enumerate(messages)]


def write_judged_log(folder: Path, matcher: Matcher):
    "Thirty ads that the champion matched yesterday, and what people who know the truth said of it."
    known = set(read_frame(tiny_run() / "data" / "jobs.parquet").job_id)
    _, jobs, labels = load_source("onet")
    jobs = jobs[~jobs.job_id.isin(known)].head(30)
    texts = {j: "\n".join(t.split("\n")[:4]) for j, t in zip(jobs.job_id, jobs.text)}
    found = matcher.match(list(texts.values()), list(texts), top_n=5)
    job = JobMatching([matcher])
    reads = records(JOBS, [dict(job_id=j, text=t, source="board") for j, t in texts.items()])
    logged = [json.loads(out.value) for _, out in job(reads) if out.topic == LOG]
    now = datetime.now(timezone.utc)
    right = {j: dict(zip(part.attribute_id, zip(part.start, part.end))) for j, part in labels[labels.label == 1].groupby("job_id")}
    said = [(j, m.attribute_id, "accepted" if m.attribute_id in right[j] else "rejected", (m.evidence[0].start, m.evidence[0].end)) for j, ms in zip(texts, found) for m in ms]
    said += [(j, a, "missing", (int(s), int(e))) for j, text in texts.items() for a, (s, e) in right[j].items() if e <= len(text)]
    verdicts = [dict(job_id=j, attribute_id=a, verdict=v, who="ada", when=now.isoformat(), start=s, end=e, share=0.5, authenticated=True) for j, a, v, (s, e) in said]
    assert write_log(records(LOG, [d | dict(time=(now - timedelta(days=1)).isoformat()) for d in logged]) + records(FEEDBACK, verdicts), folder) == []
    (folder / "ads.jsonl").write_text("".join(json.dumps(dict(job_id=j, text=t)) + "\n" for j, t in texts.items()))


@pytest.fixture
def loop(tmp_path, monkeypatch):
    "A registry with a champion, a judged log, a broker, and the reader of alerts; gives the broker's address and the folder."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}")
    registry = open_registry()
    set_alias("champion", register(tiny_run() / "model", registry), registry)
    write_judged_log(tmp_path / "log", Matcher.load(tiny_run() / "model"))
    words = ["retrain", "--like", str(tiny_run()), "--log", str(tmp_path / "log"), "--runs", str(tmp_path / "runs"), "--least", "20", "--every", "0", *(w for p in SMALL for w in ("-p", p))]
    with Broker() as broker:
        rule = dict(name="drift", severity="warning", call="jobmatch.live.rules:start_command", arguments=dict(command=[*words, "--bootstrap-servers", broker.bootstrap_servers], folder=str(tmp_path / "started")))
        (tmp_path / "client").write_text("auto.offset.reset=earliest\n")
        create_topics(broker.bootstrap_servers, partitions=1)
        command = [sys.executable, "-m", "jobmatch.cli", "alerts", "--rules", write_json(tmp_path / "rules.json", [rule]), "--bootstrap-servers", broker.bootstrap_servers, "--client", tmp_path / "client"]
        with subprocess.Popen(command, env=os.environ) as reader:
            yield broker.bootstrap_servers, tmp_path
            reader.send_signal(signal.SIGTERM)
            assert reader.wait(60) == 0


def tell_of_drift(at: str):
    alert = dict(name="drift", time=datetime.now(timezone.utc).isoformat(), severity="warning", message="ads of all sources drifted")
    send(records(ALERTS, [alert]), at)


@pytest.mark.skipif(not os.environ.get("JOBMATCH_SLOW"), reason="six stages through papermill, twice begun: JOBMATCH_SLOW=1")
def test_an_alert_retrains_and_a_kill_costs_what_was_not_done(loop):
    at, folder = loop
    run, started = folder / "runs" / "0001", lambda: [p for p in (folder / "started").glob("*.json")]
    tell_of_drift(at)
    wait_for(lambda: (run / "data" / "run.json").is_file())
    first = read_json(started()[0])
    process = psutil.Process(first["pid"])
    for p in [*process.children(recursive=True), process]:
        p.kill()
    psutil.wait_procs([process], timeout=30)
    labelled = {p.name: p.stat().st_mtime_ns for p in (run / "labelled").iterdir()}
    assert not (run / "outcome.json").exists() and "lines.parquet" in labelled
    tell_of_drift(at)
    wait_for(lambda: (run / "outcome.json").is_file())
    wait_for(lambda: len(read_topic(ALERTS, at)) == 3)  # two of drift, one that says what came of it
    assert {p.name: p.stat().st_mtime_ns for p in (run / "labelled").iterdir()} == labelled and len(list((folder / "runs").glob("0*"))) == 1
    outcome, data = read_json(run / "outcome.json"), read_frame(run / "data" / "jobs.parquet")
    held = {j for j in (json.loads(line)["job_id"] for line in (folder / "log" / "ads.jsonl").read_text().splitlines()) if is_held(j)}
    assert held and not held & set(data.job_id) and outcome["figures"]["feedback"]["ads"] == len(held)
    assert set(read_frame(tiny_run() / "data" / "jobs.parquet").query("split == 'golden'").job_id) == set(data.query("split == 'golden'").job_id)
    said = json.loads(read_topic(ALERTS, at)[-1].value)
    assert said["name"] == "retrain" and said["details"]["run"] == str(run)
    assert (outcome["challenger"] is not None) == outcome["tried"]


class Failing(Matcher):
    "A matcher that takes no ad that is a nuisance."

    def split(self, texts):
        if any("nuisance" in t for t in texts):
            raise RuntimeError("no")
        return super().split(texts)


def test_failed_ads_are_no_alerts():
    sound = Matcher.load(tiny_run() / "model")
    matching = JobMatching([Failing(**{f.name: getattr(sound, f.name) for f in fields(sound) if f.init})])
    out = [o.topic for _, o in matching(records(JOBS, [dict(job_id=f"j{i}", text="A nuisance.") for i in range(5)]))]
    assert sorted(out) == sorted([DEAD, LOG] * 5)
