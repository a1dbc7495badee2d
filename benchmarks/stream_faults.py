"""Kill workers, stop the broker and send rubbish while ads stream through, and see whether anything is lost:

    python benchmarks/stream_faults.py [--ads 2000 --bad 300 --kills 20 --output benchmarks/stream_faults.json]

Two workers share a topic. Each kill is a SIGKILL of one of them in the middle of its work, which is started again at once; halfway the broker
is stopped by SIGSTOP for longer than the group waits for anyone. The figures go to a JSON file, which `07_stream` plots.
"""

import argparse
import json
import random
import signal
import tempfile
import threading
import time
import uuid
from pathlib import Path

from streams import Fleet, Follower, bad_messages, model_folder, same_matches, short_ads

from jobmatch.core.runs import write_json
from jobmatch.core.matcher import Matcher
from jobmatch.core.schema import content_hash
from jobmatch.live.contracts import DEAD, JOBS, MATCHES, Record, canonical, decode
from jobmatch.live.kafka import Broker, create_topics, read_topic, send


def fault_test(
    model: Path,
    n_ads: int = 2000,
    n_bad: int = 300,
    n_kills: int = 20,
    pause: float = 8.0,  # seconds that the broker is stopped, halfway; 0: never
    sample: int = 100,  # ads whose matches are compared with the matcher's own
    seed: int = 42,
) -> dict:  # counts, and a timeline of ads matched
    "Run the test; raises AssertionError where something is lost, changed or made up."
    rng, begin = random.Random(seed), time.monotonic()
    good, bad = short_ads(model, n_ads, seed), bad_messages(n_bad)
    mixed = rng.sample(good + bad, n_ads + n_bad)
    stops = []
    with tempfile.TemporaryDirectory() as d, Broker() as broker:
        at = broker.bootstrap_servers
        create_topics(at)
        follower, dead = Follower(at), Follower(at, DEAD)
        with Fleet(2, at, Path(d), model, "--max-batch", "8", "--max-wait-ms", "100") as fleet:
            for w in fleet.workers:
                w.wait_for("assigned")
            sender = threading.Thread(target=lambda: [send(mixed[i : i + 50], at) for i in range(0, len(mixed), 50)])
            sender.start()
            for k in range(n_kills):
                follower.wait_for(int(n_ads * (k + rng.random()) / (n_kills + 1)), 600)
                fleet.kill(rng.randrange(2))
                if pause and k == n_kills // 2:
                    stops = _pause(broker, pause)
            sender.join()
            follower.wait_for(n_ads, 900)
            dead.wait_for(n_bad, 120)
            statuses = fleet.stop()
        follower.stop(), dead.stop()
        found = _verify(read_topic(JOBS, at), read_topic(MATCHES, at), read_topic(DEAD, at), good, n_bad)
        _compare(model, good[:: max(1, n_ads // sample)], follower)
        _no_text_in_logs(good, fleet)
    assert statuses == [0, 0], f"workers ended with {statuses}"
    times = sorted({r.key: t - begin for r, t in reversed(list(zip(follower.records, follower.seen)))}.values())
    return found | dict(kills=len(fleet.kills), kinds_of_bad=len({r.headers["reason"] for r in dead.records}), broker_pauses=len(stops) // 2,
                        seconds=round(time.monotonic() - begin, 1), kill_times=[round(t - begin, 1) for t in fleet.kills],
                        pause_times=[round(t - begin, 1) for t in stops], matched_times=[round(t, 1) for t in times[:: max(1, n_ads // 200)]])


def _pause(broker: Broker, seconds: float) -> list[float]:
    times = [time.monotonic()]
    broker.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    broker.process.send_signal(signal.SIGCONT)
    return [*times, time.monotonic()]


def _verify(jobs: list, matches: list, dead: list, good: list, n_bad: int) -> dict:
    "Nothing lost, nothing changed, nothing made up."
    values, letters = {}, {}
    for r in matches:
        values.setdefault(r.key, set()).add(r.value)
    for r in dead:
        letters.setdefault(r.key, set()).add(r.value)
    wanted = {r.key for r in good}
    broken = {r.address.encode(): r.value or b"" for r in jobs if r.key not in wanted}
    lost = wanted - values.keys()
    assert not lost, f"{len(lost)} good ads have no match, such as {sorted(lost)[:3]}"
    assert values.keys() == wanted, f"matches for ads that were not sent: {sorted(values.keys() - wanted)[:3]}"
    differing = [k for k, v in values.items() if not all(same_matches(next(iter(v)), other) for other in v)]
    assert not differing, f"{len(differing)} ads have repeats with other matches, such as {differing[:3]}"
    assert len(broken) == n_bad and letters.keys() == broken.keys(), f"{len(broken.keys() ^ letters.keys())} of {n_bad} bad messages are lost or made up"
    assert all(v == {broken[k]} for k, v in letters.items()), "a dead letter is not what was sent"
    return dict(good=len(wanted), matched=len(values), match_records=len(matches), repeats=len(matches) - len(values), differing=len(differing),
                bad=n_bad, dead=len(letters), dead_records=len(dead), lost=len(lost))


def _compare(model: Path, sample: list, follower: Follower) -> None:
    "What came out of the stream is what the matcher itself says."
    matcher, out = Matcher.load(model), {r.key: r.value for r in follower.records}
    for r in sample:
        job = decode(JOBS, r.value)
        matches = [m.to_dict() for m in matcher.match([job["text"]], [job["job_id"]])[0]]
        said = json.loads(out[r.key])
        assert (said["job_id"], said["content_hash"]) == (job["job_id"], content_hash(job["text"]))
        assert (said["model_version"], said["taxonomy_version"]) == (matcher.model_version, matcher.taxonomy_version)
        assert same_matches(out[r.key], canonical(dict(matches=matches))), f"{job['job_id']}: the stream and the matcher differ"


def _no_text_in_logs(good: list, fleet: Fleet) -> None:
    logs = "".join(w.log.read_text(errors="replace") for w in fleet.ever)
    assert "good-1" in logs, "the logs do not name the ads"
    for r in good:
        text = decode(JOBS, r.value)["text"]
        assert not any(part in logs for part in text.split(". ") if len(part) > 20), "an ad's text is in a log"


def exactly_once_test(
    model: Path,
    bootstrap_servers: str,  # a Kafka with whole transactions
    n_ads: int = 200,
    n_kills: int = 4,
    seed: int = 42,
) -> dict:
    "Kill workers that write in transactions; readers of committed records see each ad's matches exactly once."
    rng, name = random.Random(seed), uuid.uuid4().hex[:8]
    ads = [Record(JOBS, f"{name}-{i}".encode(), canonical({**json.loads(r.value), "job_id": f"{name}-{i}"})) for i, r in enumerate(short_ads(model, n_ads, seed))]
    create_topics(bootstrap_servers)
    options = ("--delivery", "exactly_once", "--group", f"test-{name}", "--max-batch", "8")
    with tempfile.TemporaryDirectory() as d, Fleet(2, bootstrap_servers, Path(d), model, *options) as fleet:
        for w in fleet.workers:
            w.wait_for("assigned")
        send(ads, bootstrap_servers)
        mine = lambda: [r for r in read_topic(MATCHES, bootstrap_servers) if r.key.startswith(name.encode())]
        end = time.monotonic() + 900
        while len(found := mine()) < n_ads:
            assert time.monotonic() < end, f"{len(found)} of {n_ads} ads matched"
            if len(fleet.kills) < n_kills and len(found) >= n_ads * len(fleet.kills) / (n_kills + 1):
                fleet.kill(rng.randrange(2))
            time.sleep(1)
        time.sleep(5)  # for repeats to show, if there were any
        assert fleet.stop() == [0, 0]
        keys = [r.key for r in mine()]
    assert sorted(keys) == sorted(r.key for r in ads), f"{len(keys)} records for {len(ads)} ads, {len(set(keys))} different"
    return dict(good=n_ads, match_records=len(keys), kills=len(fleet.kills))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ads", type=int, default=2000)
    parser.add_argument("--bad", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=8.0)
    parser.add_argument("--model", type=Path, help="a model folder (default: that of `make run`, else a small one)")
    parser.add_argument("--output", default="benchmarks/stream_faults.json")
    args = parser.parse_args()
    result = fault_test(args.model or model_folder(), args.ads, args.bad, args.kills, args.pause)
    write_json(args.output, result)
    print({k: v for k, v in result.items() if not isinstance(v, list)})


if __name__ == "__main__":
    main()
