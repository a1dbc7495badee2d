"""How fast ads go through the stream, beside the matcher called in-process on the same ads:

    python benchmarks/stream_load.py [--ads 2000 --latency-ads 300 --output benchmarks/stream_load.json]

Real ads, repeated with changes; 30 % of them repeat the text of an earlier one. One worker, a broker on loopback. Rates are compared within this
run only: half of the ads in-process, the stream without and with the feature store, the other half in-process, and then latency at half the
in-process rate.
The figures go to a JSON file, which `07_stream` plots.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from streams import Follower, WorkerProcess, fresh_store, model_folder, real_ads

from jobmatch.core.runs import write_json
from jobmatch.full_pipeline import Matcher
from jobmatch.live.contracts import LOG, Record
from jobmatch.live.kafka import Broker, create_topics, send
from jobmatch.stream import trace


def in_process(model: Path, ads: list[Record], max_batch: int) -> float:
    "Seconds that `Matcher.match` takes, batch by batch."
    matcher, texts = Matcher.load(model), [json.loads(r.value)["text"] for r in ads]
    matcher.match(texts[:2])  # what is slow the first time
    begin = time.perf_counter()
    for i in range(0, len(texts), max_batch):
        matcher.match(texts[i : i + max_batch])
    return time.perf_counter() - begin


def stream(model: Path, ads: list[Record], max_batch: int, store: bool, rate: float | None = None):
    "Send ads through a worker, all at once or at a rate; ads a second once it runs, and the trace."
    with tempfile.TemporaryDirectory() as d, Broker() as broker:
        at, folder = broker.bootstrap_servers, Path(d)
        create_topics(at)
        follower = Follower(at, LOG)
        worker = WorkerProcess(at, folder, model, "--max-batch", str(max_batch), "--store", str(fresh_store(folder)) if store else "")
        try:
            worker.wait_for("assigned", 600)
            for i in range(0, len(ads), 1 if rate else len(ads)):
                begin = time.monotonic()
                send(ads[i : i + 1] if rate else ads, at)
                time.sleep(max(0, 1 / rate - (time.monotonic() - begin)) if rate else 0)
            follower.wait_for(len(ads), 3600)
            status = worker.stop()
        finally:
            worker.kill()
        follower.stop()
        assert status == 0, f"the worker ended with {status}"
        times = sorted(follower.seen)
        done = sum(t <= times[0] + 0.05 for t in times)  # the first batch's matches come together; the clock starts with them
        return (len(times) - done) / (times[-1] - times[0]), trace(at)


def load_test(model: Path, n_ads: int = 2000, n_latency: int = 300, max_batch: int = 16, reposts: float = 0.3, seed: int = 42) -> dict:
    "All the figures."
    ads = real_ads(n_ads, seed, reposts)
    before = in_process(model, ads[::2], max_batch)
    print(f"in-process: {len(ads[::2]) / before:.2f} ads/s", flush=True)
    without, _ = stream(model, ads, max_batch, store=False)
    print(f"stream without store: {without:.2f} ads/s", flush=True)
    with_store, traced = stream(model, ads, max_batch, store=True)
    print(f"stream with store: {with_store:.2f} ads/s", flush=True)
    after = in_process(model, ads[1::2], max_batch)
    plain = n_ads / (before + after)
    print(f"in-process, both halves: {plain:.2f} ads/s", flush=True)
    _, half = stream(model, real_ads(n_latency, seed + 1), max_batch, store=True, rate=plain / 2)
    latency = dict(zip(("p50", "p95", "p99"), np.percentile(half.latency, (50, 95, 99)).round(3).tolist()))
    return dict(
        ads=n_ads, max_batch=max_batch, in_process_ads_per_s=round(plain, 3), stream_ads_per_s=round(without, 3), ratio=round(without / plain, 3),
        store_ads_per_s=round(with_store, 3), store_speed_up=round(with_store / without, 3), store_hit_rate=round(float(traced.store_hit.mean()), 3),
        repost_share=round(1 - len({json.loads(r.value)["text"] for r in ads}) / n_ads, 3), latency_ads=n_latency, latency_s=latency,
        latencies=half.latency.round(3).sort_values().tolist()[:: max(1, n_latency // 200)],
        in_process_seconds_before_and_after=[round(before, 1), round(after, 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ads", type=int, default=2000)
    parser.add_argument("--latency-ads", type=int, default=300)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--model", type=Path, help="a model folder (default: that of `make run`, else a small one)")
    parser.add_argument("--output", default="benchmarks/stream_load.json")
    args = parser.parse_args()
    result = load_test(args.model or model_folder(), args.ads, args.latency_ads, args.max_batch)
    write_json(args.output, result)
    print({k: v for k, v in result.items() if k != "latencies"})


if __name__ == "__main__":
    main()
