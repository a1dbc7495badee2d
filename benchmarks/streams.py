"""What the load test and the fault test share: workers in processes of their own, a view on what they wrote, good ads and bad messages."""

import csv
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
from confluent_kafka import Consumer, TopicPartition

from jobmatch.core.runs import finished_run, read_frame, resolve, root
from jobmatch.live.contracts import JOBS, LOG, MATCHES, MAX_CHARS, Record, decode
from jobmatch.live.kafka import LOOPBACK, consumer_settings, read_topic, record

ADS = root().parent / "shared" / "data" / "ads"


def model_folder() -> Path:
    "The model of `make run` where it is finished, else the small one of the tests."
    if run := finished_run("full_pipeline"):
        return resolve(run) / "model"
    from jobmatch.tiny import tiny_run

    return tiny_run() / "model"


def same_matches(first: str | bytes, second: str | bytes, by: float = 0.02) -> bool:
    """Whether two messages name the same attributes with the same scores. Where the processor computes in bfloat16, scores depend on the ads
    beside which an ad is matched: on the small run by up to 0.008, seen on 40 ads. A match at the end of a list may come or go by as much."""
    found = [{m["attribute_id"]: m["score"] for m in json.loads(message)["matches"]} for message in (first, second)]
    near = lambda one, other: all(abs(s - other[a]) <= by if a in other else s <= min(other.values(), default=min(one.values())) + by for a, s in one.items())
    return near(*found) and near(*found[::-1])


class WorkerProcess:
    "A `jobmatch stream` of its own; `log` is the file that it writes its lines to."

    def __init__(self, bootstrap_servers: str, folder: Path, model: Path, *options: str):
        self.start(folder, [sys.executable, "-m", "jobmatch.cli", "stream", "--model", str(model), "--bootstrap-servers", bootstrap_servers,
                            "--metrics-port", "0", *options])

    def start(self, folder: Path, command: list[str]) -> None:
        self.log = folder / f"worker-{time.time_ns()}.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(command, stderr=out, cwd=root())

    def events(self, name: str) -> list[dict]:
        "The log's lines of one event."
        lines = self.log.read_text(errors="replace").splitlines()
        return [d for d in map(_json, lines) if d.get("event") == name]

    def wait_for(self, event: str, seconds: float = 180) -> dict:
        end = time.monotonic() + seconds
        while not (found := self.events(event)):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the worker did not come to {event!r}: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        return found[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        "SIGTERM, and its exit status."
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Fleet:
    "Workers of one group, killed and started again at will; a context manager that leaves none behind."

    def __init__(self, n: int, bootstrap_servers: str, folder: Path, model: Path, *options: str):
        self.start = lambda: WorkerProcess(bootstrap_servers, folder, model, "--store", str(store), *options)
        store = fresh_store(folder)
        self.workers = [self.start() for _ in range(n)]
        self.ever, self.kills = list(self.workers), []

    def kill(self, i: int) -> None:
        "SIGKILL one in the middle of its work, and start another in its place."
        self.workers[i].kill()
        self.kills.append(time.monotonic())
        self.workers[i] = self.start()
        self.ever.append(self.workers[i])

    def stop(self) -> list[int]:
        "Stop all in good order; their exit statuses."
        return [w.stop() for w in self.workers]

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *exc) -> None:
        for w in self.workers:
            w.kill()


def trace(
    bootstrap_servers: str = LOOPBACK,
    client: dict | None = None,
) -> pd.DataFrame:  # a row an ad: job_id, store_hit, matches; arrived, written (s since the first arrival); latency (s)
    "Follow the ads in a stream from `jobs` to `match-log`, the first time that each was matched."
    arrived = {r.address: r.timestamp for r in read_topic(JOBS, bootstrap_servers, client)}
    logged = [(r.timestamp, decode(LOG, r.value)) for r in read_topic(LOG, bootstrap_servers, client) if r.value is not None]
    rows = [dict(job_id=d["job_id"], store_hit=d["store_hit"], matches=len(d["scores"]), written=t, at=f"{d['topic']}/{d['partition']}/{d['offset']}")
            for t, d in logged]
    df = pd.DataFrame(rows, columns=["job_id", "store_hit", "matches", "written", "at"]).sort_values("written").drop_duplicates("at")
    df["arrived"] = df["at"].map(arrived)
    df["latency"] = (df.written - df.arrived) / 1000
    for column in ("arrived", "written"):
        df[column] = (df[column] - min(arrived.values(), default=0)) / 1000
    return df.drop(columns="at").reset_index(drop=True)


def _json(line: str) -> dict:
    try:
        return json.loads(line)
    except ValueError:  # the last line of a killed worker
        return {}


def fresh_store(folder: Path) -> Path:
    "Where a feature repository without data will be made."
    return folder / f"store-{time.time_ns()}"


class Follower(threading.Thread):
    "Follows a topic from its beginning, and keeps all its records."

    def __init__(self, bootstrap_servers: str, topic: str = MATCHES):
        super().__init__(daemon=True)
        self.consumer = Consumer({**consumer_settings(bootstrap_servers, "follower"), "fetch.wait.max.ms": 500})
        self.consumer.assign([TopicPartition(topic, p, 0) for p in self.consumer.list_topics(topic, timeout=10).topics[topic].partitions])
        self.records, self.keys, self.seen, self.stopped = [], set(), [], False
        self.start()

    def run(self) -> None:
        while not self.stopped:
            for m in self.consumer.consume(500, 0.1):
                if m.error() is None:
                    self.records.append(record(m))
                    self.seen.append(time.monotonic())
                    self.keys.add(m.key())
        self.consumer.close()

    def wait_for(self, n: int, seconds: float) -> None:
        "Wait until so many different keys were written."
        end = time.monotonic() + seconds
        while len(self.keys) < n and time.monotonic() < end:
            time.sleep(0.05)
        if len(self.keys) < n:
            raise TimeoutError(f"{len(self.keys)} of {n} keys after {seconds:g} seconds")

    def stop(self) -> None:
        self.stopped = True
        self.join()


def ad(job_id: str, text: str, **more: str) -> Record:
    return Record(JOBS, job_id.encode(), json.dumps({"job_id": job_id, "text": text, **more}, ensure_ascii=False).encode())


def short_ads(model: Path, n: int, seed: int) -> list[Record]:
    "Ads of two or three sentences each, from the jobs the model was made with."
    rng = random.Random(seed)
    texts = read_frame(model.parent / "data" / "jobs.parquet").sort_values("job_id").text.tolist()
    sentences = sorted({s.strip() for t in texts for s in re.split(r"(?<=[.;])\s+|\n+", t) if 20 < len(s.strip()) < 200})
    return [ad(f"good-{i}", f"Vacancy {i}. " + " ".join(rng.sample(sentences, rng.choice((2, 3))))) for i in range(n)]


def real_ads(n: int, seed: int, reposts: float = 0.0) -> list[Record]:
    """Real ads under new ids, each with one line dropped and a reference added, so that no two texts are the same; `reposts` is the share of
    ads that repeat the text of an earlier one."""
    if not ADS.is_dir():
        raise FileNotFoundError(f"no {ADS}: the load test needs the real ads there")
    rng = random.Random(seed)
    with open(ADS / "hahu_ads.csv", newline="", encoding="utf-8") as f:
        texts = [row["text"] for row in csv.DictReader(f)]
    with open(ADS / "skillspan_train_ads.jsonl", encoding="utf-8") as f:
        texts += [json.loads(line)["text"] for line in f]
    made = []
    for i in range(n):
        if made and rng.random() < reposts:
            made.append(rng.choice(made))
            continue
        parts = re.split(r"(?<=[.!?])\s+|\n", rng.choice(texts))
        parts.pop(rng.randrange(len(parts)))
        made.append("\n".join([*parts, f"Reference {seed}-{i}."]))
    return [ad(f"ad-{i}", text) for i, text in enumerate(made)]


BAD = {
    "nothing": lambda i: b"",
    "no value": lambda i: None,
    "not JSON": lambda i: b"job %d: welder wanted" % i,
    "cut off": lambda i: b'{"job_id": "bad-%d", "text": "Weld' % i,
    "Latin-1": lambda i: '{"job_id": "bad", "text": "Café"}'.encode("latin-1"),
    "UTF-16": lambda i: '{"job_id": "bad", "text": "Weld."}'.encode("utf-16"),
    "byte order mark": lambda i: '\ufeff{"job_id": "bad", "text": "Weld."}'.encode(),
    "random bytes": lambda i: random.Random(i).randbytes(300),
    "NaN": lambda i: b'{"job_id": "bad", "text": NaN}',
    "a number of 5000 digits": lambda i: b'{"job_id": ' + b"7" * 5000 + b', "text": "Weld."}',
    "half a surrogate pair": lambda i: b'{"job_id": "bad", "text": "Weld \\udc00."}',
    "deep": lambda i: b'{"job_id": "bad", "text": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a list": lambda i: b'[{"job_id": "bad", "text": "Weld."}]',
    "null": lambda i: b"null",
    "no text": lambda i: b'{"job_id": "bad-%d"}' % i,
    "no job_id": lambda i: b'{"text": "Weld."}',
    "text is a number": lambda i: b'{"job_id": "bad", "text": %d}' % i,
    "text is null": lambda i: b'{"job_id": "bad", "text": null}',
    "text is empty": lambda i: b'{"job_id": "bad", "text": ""}',
    "job_id is a number": lambda i: b'{"job_id": %d, "text": "Weld."}' % i,
    "job_id is empty": lambda i: b'{"job_id": "", "text": "Weld."}',
    "title is a list": lambda i: b'{"job_id": "bad", "text": "Weld.", "title": ["Welder"]}',
    "too long": lambda i: json.dumps({"job_id": "bad", "text": "Weld. " * (MAX_CHARS // 6 + 1)}).encode(),
    "10 MB": lambda i: b'{"job_id": "bad", "text": "' + b"x" * 10_000_000 + b'"}',
}


def bad_messages(n: int) -> list[Record]:
    "Messages of all kinds of wrong; of the 10 MB ones only two, since the broker keeps them in memory."
    small = [kind for kind in BAD if kind != "10 MB"]
    kinds = (["10 MB"] * min(2, n) + small * (n // len(small) + 1))[:n]
    key = lambda kind: None if kind == "no value" else b"bad"  # with a key it would withdraw an ad
    return [Record(JOBS, key(kind), BAD[kind](i)) for i, kind in enumerate(kinds)]
