"""How often the drift alarm is false, for windows of 50 to 10,000 ads and days that differ:

    python benchmarks/drift_false_alarms.py [--windows 100] [--seed 1]

Each window has a stream of its own: 56 days of reference and one day more, all drawn alike, so windows are independent and the exact interval (Clopper and Pearson) of a share
holds. Every figure, the labels and the embeddings have a level of their own each day. The other streams break an assumption of the test: levels with long tails, weekends, days of
unlike size, weeks that have a level too. Writes drift_false_alarms.json beside itself, which `08_monitor` shows; fails if more than one clean window in a hundred can alarm.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import beta
from tqdm import tqdm

from jobmatch.core.runs import write_json
from jobmatch.live.drift import compare

SIZES = ((36, 50), (36, 200), (36, 1000), (36, 10_000), (100, 100))  # ads of a reference day, of the window
EFFECTS = (0.0, 0.1, 0.2, 0.4)  # standard deviation of a day's level, in those of ads
DAYS = 56
DIM = 16  # of embeddings, which one ad in ten has
KINDS = [f"{x}.1" for x in "abcdefghij"]


def levels(rng: np.random.Generator, days: int, effect: float, stream: str) -> np.ndarray:
    "A level for each day and column, [days, 5 + DIM + labels]; mean square `effect`²."
    shape = (days, 5 + DIM + len(KINDS))
    if stream == "long tails":
        return effect * rng.standard_t(4, shape) / np.sqrt(2)
    if stream == "weekends":  # two days of seven, and half of the spread
        weekend = (np.arange(days)[:, None] + rng.integers(7)) % 7 < 2
        return effect * (np.sqrt(0.5) * rng.normal(size=shape) + np.sqrt(0.5) * (weekend - 2 / 7) / np.sqrt(10 / 49) * rng.choice([-1, 1], shape[1]))
    if stream == "weeks too":  # half of the spread is the week's
        week = rng.normal(size=(days // 7 + 2, shape[1]))[(np.arange(days) + rng.integers(7)) // 7]
        return effect * np.sqrt(0.5) * (rng.normal(size=shape) + week)
    return effect * rng.normal(size=shape)


def observed(rng: np.random.Generator, sizes: np.ndarray, effect: float, stream: str = "days") -> pd.DataFrame:
    "What `observations` would make of days of so many ads."
    day = np.repeat(np.arange(len(sizes)), sizes)
    level = levels(rng, len(sizes), effect, stream)
    own = rng.normal(size=(len(day), 5)) + level[day, :5]
    common = rng.normal(size=len(day))  # figures of an ad are alike
    own = 0.8 * own + 0.6 * common[:, None]
    matches = np.maximum(np.round(5 + 2.2 * own[:, 2]), 0)
    odds = np.exp(level[:, 5 + DIM :])
    chosen = [rng.choice(len(KINDS), 3 * n, p=p) for n, p in zip(sizes, odds / odds.sum(axis=1, keepdims=True))]
    chosen = np.concatenate(chosen).reshape(-1, 3)
    known = rng.random(len(day)) < 0.1
    vectors = (rng.normal(size=(len(day), DIM)) + level[day, 5 : 5 + DIM]).astype(np.float32)
    return pd.DataFrame(dict(
        period=day, source="made", top_score=1 / (1 + np.exp(-own[:, 0])), margin=np.abs(own[:, 1]), matches=matches, no_match=(matches == 0) * 1.0,
        chars=np.exp(7 + 0.5 * own[:, 3]), unknown_share=1 / (1 + np.exp(2 - 0.7 * own[:, 4])), labels=[[KINDS[x] for x in ad] for ad in chosen],
        embedding=[v if k else None for v, k in zip(vectors, known)]))


def alarms(seed: int, windows: int, a_day: int, window: int, effect: float, stream: str = "days") -> int:
    "Clean windows that alarm."
    count = 0
    for i in range(windows):
        rng = np.random.default_rng([seed, i, a_day, window, int(100 * effect), len(stream)])
        sizes = np.full(DAYS + 1, a_day)
        if stream == "uneven days":
            sizes = np.maximum(rng.poisson(a_day * rng.lognormal(-0.32, 0.8, DAYS + 1)), 2)
        sizes[-1] = window
        ads = observed(rng, sizes, effect, stream)
        count += bool(compare(ads[ads.period < DAYS], ads[ads.period == DAYS]).alarm.any())
    return count


def interval(count: int, n: int) -> dict:
    "Clopper and Pearson's 95 % interval."
    return dict(windows=n, alarms=count, low=float(beta.ppf(0.025, count, n - count + 1)) if count else 0.0, high=float(beta.ppf(0.975, count + 1, n - count)) if count < n else 1.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=100, help="of each size and effect (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    args = parser.parse_args()
    cells, other = [], []
    for a_day, window in SIZES:
        for effect in tqdm(EFFECTS, desc=f"windows of {window} ads, days of {a_day}"):
            count = alarms(args.seed, args.windows, a_day, window, effect)
            cells.append({"a day's ads": a_day, "window": window, "effect": effect, **interval(count, args.windows)})
    for stream in tqdm(("long tails", "weekends", "uneven days", "weeks too"), desc="other streams"):
        count = alarms(args.seed, args.windows, 100, 100, 0.3, stream)
        other.append(dict(stream=stream, **interval(count, args.windows)))
    clean = interval(sum(c["alarms"] for c in cells), sum(c["windows"] for c in cells))
    write_json(Path(__file__).with_suffix(".json"), dict(stated=0.005, seed=args.seed, cells=cells, other=other, clean=clean))
    print(pd.DataFrame(cells).to_string(index=False), pd.DataFrame(other).to_string(index=False), clean, sep="\n")
    return 0 if clean["high"] <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
