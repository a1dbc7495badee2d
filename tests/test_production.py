"A worker that follows the registry, the log it fills, and what feedback and drift make of the log: all through the command."

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("confluent_kafka")
pytest.importorskip("mlflow")

from jobmatch.core.runs import read_json, root, write_json  # noqa: E402
from jobmatch.live.contracts import FEEDBACK, LOG, MATCHES, Record, canonical  # noqa: E402
from jobmatch.live.kafka import Broker, create_topics, read_topic, send  # noqa: E402
from jobmatch.live.registry import open_registry, register, set_alias  # noqa: E402
from jobmatch.tiny import tiny_run  # noqa: E402

sys.path.insert(0, str(root() / "benchmarks"))
from streams import WorkerProcess, short_ads  # noqa: E402


def jobmatch(*words: object, status: int = 0) -> str:
    "Run the command; what it prints."
    done = subprocess.run([sys.executable, "-m", "jobmatch.cli", *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == status and "Traceback" not in done.stderr, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def values(topic: str, at: str) -> list[dict]:
    return [json.loads(r.value) for r in read_topic(topic, at)]


def wait_for(holds, seconds: float = 120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    "A broker on which a worker has followed the alias from one model to another, ads, and their matches."
    folder = tmp_path_factory.mktemp("production")
    uri = f"sqlite:///{folder / 'registry' / 'mlflow.db'}"
    registry = open_registry(uri)
    shutil.copytree(tiny_run() / "model", folder / "other")
    write_json(folder / "other" / "matcher.json", read_json(folder / "other" / "matcher.json") | dict(model_version="other"))
    first, second = (register(m, registry) for m in (tiny_run() / "model", folder / "other"))
    set_alias("champion", first, registry)
    ads = short_ads(tiny_run() / "model", 60, 1)
    with pytest.MonkeyPatch.context() as patch, Broker() as broker:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        at = broker.bootstrap_servers
        create_topics(at)
        worker = WorkerProcess(at, folder, "models:/jobmatch@champion", "--store", "", "--top-n", "3")
        try:
            worker.wait_for("assigned")
            (folder / "first.jsonl").write_text("".join(r.value.decode() + "\n" for r in ads[:20]))
            assert jobmatch("send", folder / "first.jsonl", "--bootstrap-servers", at) == "20 ads sent\n"
            wait_for(lambda: len(values(MATCHES, at)) == 20)
            set_alias("champion", second, registry)
            for i in range(20, 60):
                send(ads[i : i + 1], at)
                time.sleep(0 if worker.events("another model serves") else 0.5)
            wait_for(lambda: len(values(MATCHES, at)) == 60)
        finally:
            status = worker.stop()
        yield folder, at, ads, status


def test_a_worker_takes_the_next_model_without_restart_or_loss(streamed):
    folder, at, ads, status = streamed
    matched = {m["job_id"]: m["model_version"] for m in values(MATCHES, at)}
    assert status == 0 and matched.keys() == {r.key.decode() for r in ads}
    tiny = read_json(tiny_run() / "model" / "matcher.json")["model_version"]
    assert {matched[r.key.decode()] for r in ads[:20]} == {tiny} and matched[ads[-1].key.decode()] == "other"
    logged = values(LOG, at)
    assert all(0 <= d["unknown_share"] <= 1 for d in logged)
    assert 0 < sum(d["embedding"] is not None for d in logged) < len(logged)


@pytest.fixture(scope="module")
def log_folder(streamed) -> Path:
    "What `jobmatch log` made of the topics, of verdicts and of weeks that went before."
    folder, at, ads, _ = streamed
    logged, now = sorted(values(LOG, at), key=lambda d: d["job_id"]), datetime.now(timezone.utc)
    chance = random.Random(0)  # each of forty days draws its own ads: days that repeat ads in step would look like days that differ
    drawn = [(2 + day, d) for day in range(40) for d in chance.sample(logged, 15)]
    earlier = [d | dict(time=(now - timedelta(days=day)).isoformat(), offset=1000 + n, model_version="other") for n, (day, d) in enumerate(drawn)]
    verdicts = [dict(job_id=d["job_id"], attribute_id=s["attribute_id"], verdict="rejected" if i % 3 == 0 else "accepted", who="ann",
                     when=now.isoformat()) for i, (d, s) in enumerate((d, s) for d in logged for s in d["scores"])]
    records = [Record(LOG, d["job_id"].encode(), canonical(d)) for d in earlier] + [Record(FEEDBACK, d["job_id"].encode(), canonical(d)) for d in verdicts]
    send([*records, *records[-5:], Record(FEEDBACK, b"x", b"{}")], at)  # some come twice, one is broken
    command = [sys.executable, "-m", "jobmatch.cli", "log", "--log", str(folder / "log"), "--bootstrap-servers", at]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ) as process:
        wait_for(lambda: len(list((folder / "log" / LOG).rglob("*.parquet"))) > 30 and list((folder / "log" / FEEDBACK).rglob("*.parquet")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    return folder / "log"


def test_feedback_shows_precision_and_becomes_labels(streamed, log_folder):
    folder, _, ads, _ = streamed
    assert jobmatch("feedback", "precision", "--log", folder / "empty") == "no match of the log was judged yet\n"
    said = jobmatch("feedback", "precision", "--log", log_folder)
    rows = pd.read_csv(io.StringIO(said), sep=r"\s+").set_index("model_version")
    assert len(rows) == 2 and abs(rows.right.sum() / rows.judged.sum() - 2 / 3) < 0.02  # every third was rejected
    texts = [json.loads(r.value) for r in ads]
    (folder / "ads.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    said = jobmatch("feedback", "export", folder / "labelled", "--log", log_folder, "--jobs", folder / "ads.jsonl", "--model", tiny_run() / "model")
    assert "positive" in said
    labels = pd.read_csv(folder / "labelled" / "all_labeled_data_feedback.csv")
    assert set(labels.label) == {0, 1} and not labels.duplicated(["job_id", "attribute_id"]).any()


def test_drift_reads_the_log_and_starts_a_command(streamed, log_folder, tmp_path):
    said = jobmatch("drift", "--log", log_folder, "--out", tmp_path / "drift", "--no-report")
    assert "no alarm" in said
    command = dict(command=["registry", "list"], folder=str(tmp_path / "started"))
    rules = write_json(tmp_path / "rules.json", [dict(name="drift", call="jobmatch.live.rules:start_command", arguments=command)])
    cut = streamed[0] / "cut"
    shutil.copytree(log_folder, cut)
    messages = [d | dict(chars=3, sentences=1, offset=9000 + i, unknown_share=0.9, time=datetime.now(timezone.utc).isoformat(), model_version="other")
                for i, d in enumerate(3 * values(LOG, streamed[1])[:60])]  # most of today
    (cut / f"{LOG}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in messages))
    said = jobmatch("drift", "--log", cut, "--out", tmp_path / "drift", "--no-report", "--rules", rules)
    assert "drifted" in said
    wait_for(lambda: any("model_version" in p.read_text() for p in (tmp_path / "started").glob("*.log")))
    (cut / f"{LOG}.jsonl").write_text("".join(json.dumps(d | dict(model_version="new")) + "\n" for d in messages))
    said = jobmatch("drift", "--log", cut, "--out", tmp_path / "early", "--no-report")  # a model that was released today
    assert "nothing is compared yet" in said and read_json(tmp_path / "early" / "quality.json")
    said = jobmatch("drift", "--log", tmp_path / "nothing", status=2)
    assert "has no ads before" in said
