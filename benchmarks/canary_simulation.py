"""Simulate a thousand rollouts of each kind of challenger with the canary's own decision functions.

    python benchmarks/canary_simulation.py [--rollouts 1000] [--seed 0]

Writes canary_simulation.json beside itself, and fails if the plan does not do what it promises. One core, a few minutes.
"""

import argparse
import math
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from jobmatch.core.runs import write_json
from jobmatch.live.canary import Plan, check, log_evidence, new_rollout, observe, percent_of

PROMISES = {  # kind → (column, at most or at least, share)
    "equal": ("rolled_back", "at most", 0.05),
    "5 points worse": ("before_25", "at least", 0.95),
    "slower": ("rolled_back", "at least", 1.0),
    "crashing": ("rolled_back", "at least", 1.0),
    "silent": ("rolled_back", "at least", 1.0),
}


KINDS = {
    "equal": {},
    "5 points worse": dict(accepted=0.70),
    "slower": dict(latency=1.5),  # in all its ads
    "crashing": dict(errors=0.05),  # on one ad in twenty
    "silent": dict(judged=0.0),  # its feedback is lost
}
USUAL = dict(accepted=0.75, latency=1.0, errors=0.001, judged=0.2)


def _judged(rng: np.random.Generator, n: int, accepted: float) -> tuple[np.ndarray, np.ndarray]:
    "Share rejected, and mean score minus share accepted, of judged ads."
    verdicts = 1 + rng.poisson(2, n)
    rejected = rng.binomial(verdicts, 1 - rng.beta(4 * accepted, 4 * (1 - accepted), n)) / verdicts
    return rejected, rng.normal(0.75, 0.1, n) - (1 - rejected)


def simulated_hour(
    rng: np.random.Generator,
    percent: float,  # of the ads that the challenger serves
    kind: dict,  # of `KINDS`
    shadow: float,  # percent of the ads that both match
    n: int = 5000,  # ads
) -> tuple[dict, dict, np.ndarray]:  # what `observe` takes: ads, judged, agreement
    "An hour of traffic."
    arms = {False: USUAL, True: USUAL | kind}
    served = {True: rng.binomial(n, percent / 100)}
    served[False] = n - served[True]
    both = rng.binomial(served[False], shadow / 100)
    parts, verdicts = [], []
    for who, w in arms.items():
        ads = served[who] + both * who
        ms = np.full(ads, np.nan)
        timed = rng.binomial(ads, min(1, shadow / 100)) if not who else ads
        ms[:timed] = rng.lognormal(np.log(50 * w["latency"]), 0.6, timed)
        parts.append(dict(challenger=np.full(ads, who), error=rng.random(ads) < w["errors"], ms=ms, matches=rng.poisson(5, ads)))
        judged = rng.binomial(served[who], w["judged"])
        rejected, gap = _judged(rng, judged, w["accepted"])
        verdicts.append(dict(challenger=np.full(judged, who), rejected=rejected, gap=gap))
    join = lambda tables: {c: np.concatenate([t[c] for t in tables]) for c in tables[0]}
    order = rng.permutation(sum(len(v["gap"]) for v in verdicts))
    return join(parts), {c: v[order] for c, v in join(verdicts).items()}, rng.beta(8, 2, both)


def simulate(
    kind: dict,  # of `KINDS`
    seed: int,
    plan: Plan | None = None,
    hours: int = 500,
) -> dict:  # status, percent (reached), reason, hours, ads; path: (hour, percent, evidence) of every check
    "Simulate a rollout."
    rng, start = np.random.default_rng(seed), datetime(2026, 1, 5, tzinfo=timezone.utc)
    state = new_rollout("champion", "challenger", dict(champion="1", challenger="2"), plan, start)
    path = []
    for hour in range(1, hours + 1):
        now, percent = start + timedelta(hours=hour), percent_of(state)
        path.append((hour, percent, math.exp(log_evidence(state["test"]))))
        state = check(observe(state, *simulated_hour(rng, percent, kind, state["plan"]["shadow"]), now), now)
        if state["status"] != "running":
            break
    return dict(status=state["status"], percent=percent, reason=state["record"][-1]["reason"], hours=hour, ads=5000 * hour, path=path,
                judged=state["test"]["ads"])


def summarize(
    results: dict[str, list[dict]],  # kind → of `simulate`
) -> pd.DataFrame:  # a row a kind
    "What became of simulated rollouts."
    rows = []
    for kind, runs in results.items():
        back = [r for r in runs if r["status"] == "rolled back"]
        rows.append(dict(challenger=kind, rollouts=len(runs), promoted=np.mean([r["status"] == "promoted" for r in runs]),
                         rolled_back=len(back) / len(runs), before_25=sum(r["percent"] < 25 for r in back) / len(runs),
                         median_ads=int(np.median([r["ads"] for r in runs])), median_judged=int(np.median([r["judged"] for r in runs])),
                         reasons=", ".join(pd.Series([r["reason"] for r in back], dtype=str).value_counts().index[:3])))
    return pd.DataFrame(rows).set_index("challenger")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=1000, help="of each kind (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others follow (default: 0)")
    args = parser.parse_args()
    results = {}
    for kind, world in KINDS.items():
        runs = [simulate(world, args.seed + i) for i in tqdm(range(args.rollouts), desc=kind)]
        results[kind] = [{k: v for k, v in r.items() if k != "path"} for r in runs]
    table = summarize(results)
    print(table.drop(columns="reasons").to_string())
    kept = [table.loc[kind, column] <= share if way == "at most" else table.loc[kind, column] >= share for kind, (column, way, share) in PROMISES.items()]
    write_json(Path(__file__).with_suffix(".json"), dict(rollouts=args.rollouts, seed=args.seed, plan=vars(Plan()), summary=table.reset_index().to_dict("records")))
    for (kind, (column, way, share)), fine in zip(PROMISES.items(), kept):
        print(f"{'ok    ' if fine else 'BROKEN'} {kind}: {column} {table.loc[kind, column]:.3f}, promised {way} {share}")
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
