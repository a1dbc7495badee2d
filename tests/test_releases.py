"Whose verdicts decide about a release, from the page's service over the log to the counts of a check; and the keys that people are known by."

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

pytest.importorskip("confluent_kafka")

from jobmatch.core.schema import content_hash  # noqa: E402
from jobmatch.live.canary import new_rollout, recount, status_line, traffic  # noqa: E402
from jobmatch.live.contracts import FEEDBACK, LOG, SHADOW, check  # noqa: E402
from jobmatch.live.log import open_log  # noqa: E402
from jobmatch.live.serve import Keys, Reviewing, file_sink, make_app, new_key  # noqa: E402

NOW = datetime.now(timezone.utc)
AD = "You repair bicycles."


class Names:
    "What the service needs of a model to take verdicts."

    attributes = pd.DataFrame(dict(attribute_id=["a", "b"], name=["Repair bicycles", "Greet visitors"]))
    model_version = taxonomy_version = "1"


def shadowed(folder: Path, ads: int) -> dict:
    "A log of ads that champion and challenger matched, and the rollout's state."
    state = new_rollout("champion", "challenger", dict(champion="old", challenger="new"), now=NOW - timedelta(hours=2))
    row = lambda i, version: dict(
        job_id=f"j{i}", content_hash=content_hash(AD), source=None, time=(NOW - timedelta(hours=1)).isoformat(), latency_ms=1.0, store_hit=False, chars=20, sentences=1,
        scores=[dict(attribute_id="a", score=0.9, bi_score=0.5, cross_score=None)], model_version=version, taxonomy_version="1", topic="jobs", partition=0, offset=i)
    folder.mkdir()
    for topic, version in ((LOG, "old"), (SHADOW[LOG], "new")):
        (folder / f"{topic}.jsonl").write_text("".join(json.dumps(row(i, version)) + "\n" for i in range(ads)))
    return state


def service(folder: Path, keys: Keys | None) -> TestClient:
    "The page's service, which offers everybody the ad j0."
    offer = dict(job_id="j0", content_hash=content_hash(AD), text=AD, share=0.25, matches=[])
    app = make_app(Reviewing(Names(), file_sink(folder), draw=lambda who: offer), keys=keys, per_minute=600)
    return TestClient(app, base_url="http://127.0.0.1")


def judge(client: TestClient, job_id: str, verdict: str, key: str = "", **more: object):
    body = dict(job_id=job_id, attribute_id="a", verdict=verdict, **more)
    assert client.post("/feedback", json=body, headers={"x-api-key": key}).status_code == 201


def test_only_known_people_on_offered_ads_decide(tmp_path):
    log = tmp_path / "log"
    state, keys = shadowed(log, 3), tmp_path / "keys.json"
    ada = new_key("ada", keys)
    guarded, open_to_all = service(log, Keys(keys)), service(log, None)
    guarded.get("/review", headers={"x-api-key": ada})
    open_to_all.get("/review", params=dict(who="eve"))
    judge(guarded, "j0", "accepted", ada)  # the only one that counts
    judge(guarded, "j1", "rejected", ada, share=1.0)  # an ad that she was not offered
    judge(open_to_all, "j0", "rejected", who="eve", authenticated=True)
    judge(open_to_all, "j0", "rejected", who="ada")  # later, under a name that is known
    assert open_log(log).sql("select verdict from feedback where job_id = 'j0'").fetchall() == [("rejected",)]
    counted = recount(state, open_log(log))
    assert counted["test"]["ads"] == counted["counts"]["challenger"]["calibration"][0] == 1
    assert abs(counted["counts"]["challenger"]["calibration"][1]) < 1e-9 and counted["test"]["log"] == [0.0] * 4
    assert counted["not_counted"] == 3 and "3 verdicts not counted" in status_line(counted)
    assert traffic(log)["judged"] == 1 and recount(state, open_log(log)) == counted


def test_verdicts_of_before_the_mark_do_not_decide(tmp_path):
    state = shadowed(tmp_path / "log", 1)
    old = dict(job_id="j0", attribute_id="a", verdict="accepted", who="ada", when=NOW.isoformat(), share=0.5)
    check(FEEDBACK, old)
    day = tmp_path / "log" / FEEDBACK / f"day={NOW:%Y-%m-%d}"
    day.mkdir(parents=True)
    row = old | dict(when=NOW.replace(tzinfo=None), start=None, end=None, content_hash=None)
    pd.DataFrame([row]).to_parquet(day / "0-000000000000-000000000000-00000000.parquet")  # as it was written without the column
    counted = recount(state, open_log(tmp_path / "log"))
    assert (counted["test"]["ads"], counted["not_counted"]) == (0, 1)


MANY = """
import sys, time
from jobmatch.live import serve
read = serve.read_json
def slowly(path):
    known = read(path)
    time.sleep(0.02)  # time for the other to write
    return known
serve.read_json = slowly
for i in range(25):
    serve.new_key(f"{sys.argv[2]}{i}", sys.argv[1])
"""


def test_two_processes_that_add_keys_keep_both(tmp_path):
    keys = tmp_path / "keys.json"
    new_key("first", keys)
    processes = [subprocess.Popen([sys.executable, "-c", MANY, str(keys), who]) for who in ("ada", "bob")]
    assert [p.wait(120) for p in processes] == [0, 0]
    assert json.loads(keys.read_text()).keys() == {"first", *(f"{who}{i}" for who in ("ada", "bob") for i in range(25))}
