"""Simulate rollouts with the canary's own decision functions, in a world with nights, weekends, few verdicts and late ones:

    python benchmarks/canary_simulation.py [--rollouts 200] [--seed 0]

1,000, 5,000 and 50,000 ads a day, 2 % of them judged; the plan is the one that `make_plan` derives. Writes canary_simulation.json beside itself, which `09_canary` shows, and fails if
a plan does not do what it promises. One core, half an hour.
"""

import argparse
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from jobmatch.core.runs import write_json
from jobmatch.live.canary import check, make_plan, new_rollout, observe, percent_of

TRAFFIC = (1000, 5000, 50_000)  # ads a day
JUDGED = 0.02  # of the ads
SLOT = 2  # hours between checks
LONGEST = 120  # days
KINDS = {
    "equal": {},
    "5 points worse": dict(worse=0.05),  # of a hundred of its matches, five more are rejected; its own, a fifth, bear it all
    "slower": dict(latency=1.5),
    "crashing": dict(errors=0.05),  # on one ad in twenty
    "mute": dict(mute=True),  # hangs, and leaves no trace
}
PROMISES = {  # kind → (column, at most or at least, share)
    "equal": ("rolled_back", "at most", 0.05), "5 points worse": ("before_25", "at least", 0.95), "slower": ("rolled_back", "at least", 1.0),
    "crashing": ("rolled_back", "at least", 1.0), "mute": ("rolled_back", "at least", 1.0)}


def arrivals(now: datetime, a_day: int) -> float:
    "Ads expected in a slot: four times as many at noon as at midnight, half as many at weekends."
    clock = 1 - 0.6 * np.cos(2 * np.pi * now.hour / 24)
    return a_day * SLOT / 24 * clock * (0.5 if now.weekday() >= 5 else 1.2)


def judged_when(rng: np.random.Generator, now: datetime, n: int) -> list[datetime]:
    "When people judge ads of now: half a day later by the median, a week at most, and always in office hours."
    late = np.minimum(rng.lognormal(np.log(12), 1.2, n), 168)
    return [in_office(now + timedelta(hours=float(h))) for h in late]


def in_office(time: datetime) -> datetime:
    "The same time in office hours, or the next morning in the office."
    if time.hour >= 17:
        time = (time + timedelta(days=1)).replace(hour=9)
    if time.hour < 9:
        time = time.replace(hour=9)
    while time.weekday() >= 5:
        time = (time + timedelta(days=1)).replace(hour=9)
    return time


def verdicts(rng: np.random.Generator, n: int, worse: float) -> dict[str, np.ndarray]:
    "What `judged_pairs` makes of n ads: some three attributes judged each; the models agree on four in five of theirs; an ad's verdicts hang together (0.2)."
    count = np.minimum(1 + rng.poisson(2, n), 8)
    judged = np.arange(8) < count[:, None]
    who = rng.choice(3, (n, 8), p=[4 / 6, 1 / 6, 1 / 6])  # found by both, by the champion alone, by the challenger alone
    fits = rng.random((n, 8)) < np.where(who == 2, rng.beta(*shape(0.75 - 5 * worse), (n, 1)), rng.beta(*shape(0.75), (n, 1)))
    share = lambda x, of: np.where(of.any(axis=1), (x & of).sum(axis=1) / np.maximum(of.sum(axis=1), 1), np.nan)
    found = {"champion": who != 2, "challenger": who != 1}
    wrong = {arm: share(f != fits, judged) for arm, f in found.items()}
    right = {arm: share(fits, judged & f) for arm, f in found.items()}
    return wrong | dict(gap=right["champion"] - right["challenger"] + rng.normal(0, 0.05, n))


def shape(mean: float) -> tuple[float, float]:
    "A beta distribution's parameters that make an intra-class correlation of 0.2."
    return 4 * mean, 4 * (1 - mean)


def slot(rng: np.random.Generator, now: datetime, a_day: int, percent: float, plan: dict, kind: dict) -> tuple[dict, int, int]:
    "The ads of a slot; how many both matched; how many the challenger serves."
    n = rng.poisson(arrivals(now, a_day))
    served = rng.binomial(n, percent / 100)
    both = rng.binomial(n, min(plan["shadow"], 100 - percent) / 100)
    theirs = 0 if kind.get("mute") else served + both
    ads = dict(challenger=np.repeat([False, True], [n - served, theirs]), ms=np.full(n - served + theirs, np.nan))
    timed = {False: min(both, n - served), True: theirs}
    for who, latency in ((False, 50), (True, 50 * kind.get("latency", 1))):
        at = np.flatnonzero(ads["challenger"] == who)[: timed[who]]
        ads["ms"][at] = rng.lognormal(np.log(latency), 0.6, len(at))
    ads["error"] = (rng.random(len(ads["ms"])) < np.where(ads["challenger"], kind.get("errors", 0.001), 0.001)).astype(float)
    ads["matches"] = rng.poisson(5, len(ads["ms"])).astype(float)
    order = rng.permutation(len(ads["ms"]))
    return {k: v[order] for k, v in ads.items()}, 0 if kind.get("mute") else both, 0 if kind.get("mute") else served


def simulate(kind: dict, a_day: int, seed: int) -> dict:
    "A rollout: status, percent reached, reason, days, judged; path: (day, percent) of every step."
    rng, start = np.random.default_rng([seed, a_day]), datetime(2026, 1, 5, tzinfo=timezone.utc) + timedelta(hours=float(seed % 168))
    plan, table = make_plan(a_day, JUDGED * a_day)
    state = new_rollout("champion", "challenger", dict(champion="1", challenger="2"), plan, start)
    chance = min(1.0, JUDGED / (plan.shadow / 100))  # that an ad which both matched is judged
    now, waiting, path = start, [], [(0.0, 0)]
    while state["status"] == "running" and now < start + timedelta(days=LONGEST):
        percent = percent_of(state)
        ads, both, served = slot(rng, now, a_day, percent, state["plan"], kind)
        now += timedelta(hours=SLOT)
        waiting += judged_when(rng, now, rng.binomial(both, chance))
        arrived = sum(t <= now for t in waiting)
        waiting = [t for t in waiting if t > now]
        state = check(observe(state, ads, verdicts(rng, arrived, kind.get("worse", 0)), rng.beta(8, 2, both), np.ones(served)), now)
        days = (now - start) / timedelta(days=1)
        path.append((round(days, 2), percent_of(state)))
    return dict(status=state["status"], percent=percent, reason=state["record"][-1]["reason"], days=days, judged=state["test"]["ads"], path=path, points=table.attrs["points"])


def summarize(a_day: int, kind: str, runs: list[dict]) -> dict:
    "What became of rollouts."
    back = [r for r in runs if r["status"] == "rolled back"]
    return {"ads a day": a_day, "challenger": kind, "rollouts": len(runs), "promoted": float(np.mean([r["status"] == "promoted" for r in runs])), "rolled_back": len(back) / len(runs),
            "before_25": sum(r["percent"] < 25 for r in back) / len(runs), "median_days": float(np.median([r["days"] for r in runs])),
            "slowest_days": float(max(r["days"] for r in runs)), "median_judged": int(np.median([r["judged"] for r in runs])), "points": float(runs[0]["points"]),
            "reasons": ", ".join(pd.Series([r["reason"] for r in back], dtype=str).value_counts().index[:3])}


def steps_of(path: list) -> list:
    "The points of a path where the percent changes, and its end."
    return [p for i, p in enumerate(path) if i in (0, len(path) - 1) or p[1] != path[i - 1][1]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=200, help="equal ones and worse ones; of the others a quarter (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow (default: 0)")
    args = parser.parse_args()
    rows, paths, kept = [], {}, True
    for a_day in TRAFFIC:
        for kind, world in KINDS.items():
            n = args.rollouts if kind in ("equal", "5 points worse") else max(1, args.rollouts // 4)
            runs = [simulate(world, a_day, args.seed + i) for i in tqdm(range(n), desc=f"{a_day} ads a day, {kind}")]
            if a_day == 5000 and kind in ("equal", "5 points worse", "slower"):
                paths[kind] = [steps_of(r["path"]) for r in runs[:5]]
            row = summarize(a_day, kind, runs)
            column, way, share = PROMISES[kind]
            fine = row[column] <= share if way == "at most" else row[column] >= share
            kept &= fine or (kind == "5 points worse" and row["points"] > 5.1)
            print(f"{'ok    ' if fine else 'BROKEN'} {a_day} ads a day, {kind}: {column} {row[column]:.3f}, promised {way} {share}; median {row['median_days']:.1f} days", flush=True)
            rows.append(row)
    write_json(Path(__file__).with_suffix(".json"), dict(rollouts=args.rollouts, seed=args.seed, judged=JUDGED, summary=rows, paths=paths))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
