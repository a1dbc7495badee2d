"""Simulate a thousand rollouts of each kind of challenger with the canary's own decision functions.

    python benchmarks/canary_simulation.py [--rollouts 1000] [--seed 0]

Writes canary_simulation.json beside itself, and fails if the plan does not do what it promises. One core, a few minutes.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from jobmatch.canary import KINDS, Plan, simulate, summarize
from jobmatch.core.runs import write_json

PROMISES = {  # kind → (column, at most or at least, share)
    "equal": ("rolled_back", "at most", 0.05),
    "5 points worse": ("before_25", "at least", 0.95),
    "slower": ("rolled_back", "at least", 1.0),
    "crashing": ("rolled_back", "at least", 1.0),
    "silent": ("rolled_back", "at least", 1.0),
}


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
