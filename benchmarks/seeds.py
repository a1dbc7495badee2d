"""The figures of several runs side by side, and their mean: python benchmarks/seeds.py outputs/esco outputs/seed2 outputs/seed3

Each run must have been measured on the same benchmark (`python -m jobmatch.full_pipeline RUN --golden_dir FOLDER`). Prints a Markdown table.
"""

import argparse

import pandas as pd

from jobmatch.core.runs import read_json, resolve

FIGURES = {
    "TECH RP@5": "tech_validation.rp@5", "HOUSE RP@5": "house_validation.rp@5", "TECH recall@100": "tech_validation.recall@100", "HOUSE recall@100": "house_validation.recall@100",
    "14 ads F1": "jobs_validation.f1", "46 ads F1": "jobs_real_silver.f1", "golden ads F1": "jobs_golden.f1", "silent lines matched": "golden.silent_matched",
    "calibration error above the threshold": "jobs_golden.ece_above"}


def figures(run: str) -> dict[str, float]:
    "A run's figures; nan where it was measured without the benchmark."
    metrics = read_json(resolve(run) / "full_pipeline" / "metrics.json")
    return {column: metrics.get(key, float("nan")) for column, key in FIGURES.items()}


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runs", nargs="+")
    runs = args.parse_args().runs
    seeds = [read_json(resolve(run) / "bi_train" / "run.json")["parameters"]["seed"] for run in runs]
    table = pd.DataFrame([figures(run) for run in runs], index=[f"seed {s}" for s in seeds])
    print(pd.concat([table, table.mean().to_frame("mean").T]).round(3).to_markdown())


if __name__ == "__main__":
    main()
