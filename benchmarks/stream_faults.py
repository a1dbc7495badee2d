"""Kill workers, stop the broker and send rubbish while ads stream through, and see whether anything is lost:

    python benchmarks/stream_faults.py [--ads 2000 --bad 300 --kills 20 --output benchmarks/stream_faults.json]

Two workers share a topic. Each kill is a SIGKILL of one of them in the middle of its work, which is started again at once; halfway the broker
is stopped by SIGSTOP for longer than the group waits for anyone. The figures go to a JSON file, which `07_stream` plots.
"""

import argparse
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from streams import Follower, WorkerProcess, bad_messages, fresh_store, model_folder, short_ads

from jobmatch.core.runs import write_json
from jobmatch.full_pipeline import Matcher
from jobmatch.core.schema import content_hash
from jobmatch.live.contracts import DEAD, JOBS, MATCHES, canonical, decode
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
    with tempfile.TemporaryDirectory() as d, Broker() as broker:
        at, folder = broker.bootstrap_servers, Path(d)
        create_topics(at)
        store, follower = fresh_store(folder), Follower(at)
        start = lambda: WorkerProcess(at, folder, model, "--store", str(store), "--max-batch", "8", "--max-wait-ms", "100")
        workers, all_workers = [start(), start()], []
        all_workers += workers
        for w in workers:
            w.wait_for("assigned")
        sender = threading.Thread(target=lambda: [send(mixed[i : i + 50], at) for i in range(0, len(mixed), 50)])
        sender.start()
        kills, stops = [], []
        for k in range(n_kills):
            _wait(follower, n_ads * (k + rng.random()) / (n_kills + 1))
            i = rng.randrange(2)
            workers[i].kill()
            kills.append(time.monotonic())
            workers[i] = start()
            all_workers.append(workers[i])
            if pause and k == n_kills // 2:
                stops = _pause(broker, pause)
        sender.join()
        follower.wait_for(n_ads, 900)
        dead = Follower(at, DEAD)
        dead.wait_for(n_bad, 120)
        statuses = [w.stop() for w in workers]
        follower.stop(), dead.stop()
        found = _verify(read_topic(JOBS, at), read_topic(MATCHES, at), read_topic(DEAD, at), good, n_bad)
        _compare(model, good[:: max(1, n_ads // sample)], follower)
        assert statuses == [0, 0], f"workers ended with {statuses}"
        _no_text_in_logs(good, all_workers)
    ends = sorted({r.key: t - begin for r, t in reversed(list(zip(follower.records, follower.seen)))}.values())
    return found | dict(kills=len(kills), broker_pauses=len(stops) // 2, seconds=round(time.monotonic() - begin, 1),
                        kill_times=[round(t - begin, 1) for t in kills], pause_times=[round(t - begin, 1) for t in stops],
                        matched_times=[round(t, 1) for t in ends[:: max(1, n_ads // 200)]])


def _wait(follower: Follower, n: float) -> None:
    "Wait until so many ads are matched; the workers may need a while to start again."
    follower.wait_for(int(n), 300)


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
    differing = [k for k, v in values.items() if len(v) > 1]
    assert not differing, f"{len(differing)} ads have repeats with other bytes, such as {differing[:3]}"
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
        value = dict(job_id=job["job_id"], content_hash=content_hash(job["text"]), matches=matches, model_version=matcher.model_version,
                     taxonomy_version=matcher.taxonomy_version)
        assert out[r.key] == canonical(value), f"{job['job_id']}: the stream and the matcher differ"


def _no_text_in_logs(good: list, workers: list) -> None:
    logs = "".join(w.log.read_text(errors="replace") for w in workers)
    assert "good-1" in logs, "the logs do not name the ads"
    for r in good:
        text = decode(JOBS, r.value)["text"]
        assert not any(part in logs for part in text.split(". ") if len(part) > 20), "an ad's text is in a log"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ads", type=int, default=2000)
    parser.add_argument("--bad", type=int, default=300)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=8.0)
    parser.add_argument("--output", default="benchmarks/stream_faults.json")
    args = parser.parse_args()
    result = fault_test(model_folder(), args.ads, args.bad, args.kills, args.pause)
    write_json(args.output, result)
    print({k: v for k, v in result.items() if not isinstance(v, list)})


if __name__ == "__main__":
    main()
