"""How fast ads go through the stream, beside the matcher called in-process on the same ads:

    python benchmarks/stream_load.py [--ads 2000 --latency-ads 300 --output benchmarks/stream_load.json]

Real ads, repeated with changes; 30 % of them repeat the text of an earlier one. One worker, a broker on loopback. A machine's speed changes within
minutes, so the ads are taken in four rounds, and each round's are matched in-process, by the stream without a store, and by the stream with one that
the rounds share. Rates are of all rounds together. Then the latency at half the in-process rate.
The figures go to a JSON file, which `07_stream` plots.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from streams import Follower, WorkerProcess, fresh_store, model_folder, real_ads, trace

from jobmatch.core.runs import write_json
from jobmatch.core.matcher import Matcher
from jobmatch.live.contracts import LOG, Record
from jobmatch.live.kafka import Broker, create_topics, send


def in_process(model: Path, ads: list[Record], max_batch: int) -> float:
    "Seconds that `Matcher.match` takes, batch by batch."
    matcher, texts = Matcher.load(model), [json.loads(r.value)["text"] for r in ads]
    matcher.match(texts[:2])  # what is slow the first time
    begin = time.perf_counter()
    for i in range(0, len(texts), max_batch):
        matcher.match(texts[i : i + max_batch])
    return time.perf_counter() - begin


def stream(model: Path, ads: list[Record], max_batch: int, store: Path | None = None, rate: float | None = None):
    "Send ads through a worker, all at once or at a rate; seconds for an ad once it runs, and the trace."
    with tempfile.TemporaryDirectory() as d, Broker() as broker:
        at, folder = broker.bootstrap_servers, Path(d)
        create_topics(at)
        follower = Follower(at, LOG)
        worker = WorkerProcess(at, folder, model, "--max-batch", str(max_batch), "--store", str(store or ""))
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
        return (times[-1] - times[0]) / (len(times) - done), trace(at)


def load_test(model: Path, n_ads: int = 2000, n_latency: int = 300, max_batch: int = 16, reposts: float = 0.3, rounds: int = 4, seed: int = 42) -> dict:
    "All the figures."
    ads, seconds, hits = real_ads(n_ads, seed, reposts), {"in-process": [], "stream": [], "stream with store": []}, []
    with tempfile.TemporaryDirectory() as d:
        store = fresh_store(Path(d))
        for i in range(rounds):
            part = ads[i * n_ads // rounds : (i + 1) * n_ads // rounds]
            seconds["in-process"].append(in_process(model, part, max_batch) / len(part))
            seconds["stream"].append(stream(model, part, max_batch)[0])
            with_store, traced = stream(model, part, max_batch, store)
            seconds["stream with store"].append(with_store)
            hits += traced.store_hit.tolist()
            print(f"round {i + 1} of {rounds}: " + ", ".join(f"{k} {1 / v[-1]:.2f} ads/s" for k, v in seconds.items()), flush=True)
        rates = {k: rounds / sum(v) for k, v in seconds.items()}
        _, half = stream(model, real_ads(n_latency, seed + 1), max_batch, fresh_store(Path(d)), rate=rates["in-process"] / 2)
    latency = dict(zip(("p50", "p95", "p99"), np.percentile(half.latency, (50, 95, 99)).round(3).tolist()))
    return dict(
        ads=n_ads, max_batch=max_batch, in_process_ads_per_s=round(rates["in-process"], 3), stream_ads_per_s=round(rates["stream"], 3),
        ratio=round(rates["stream"] / rates["in-process"], 3), store_ads_per_s=round(rates["stream with store"], 3),
        store_speed_up=round(rates["stream with store"] / rates["stream"], 3), store_hit_rate=round(float(np.mean(hits)), 3),
        repost_share=round(1 - len({json.loads(r.value)["text"] for r in ads}) / n_ads, 3), latency_ads=n_latency, latency_s=latency,
        latencies=half.latency.round(3).sort_values().tolist()[:: max(1, n_latency // 200)],
        seconds_an_ad_by_round={k: [round(x, 4) for x in v] for k, v in seconds.items()})


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
    if result["ratio"] < 0.9:
        raise SystemExit(f"the stream is slower than it should be beside the matcher alone: {result['ratio']} of its rate, less than 0.9")


if __name__ == "__main__":
    main()
