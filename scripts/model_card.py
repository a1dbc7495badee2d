"""Fill nbs/guides/model_card.ipynb with the figures of a finished run: python scripts/model_card.py [--run outputs/esco]"""

import argparse
import json
import sys
from pathlib import Path

from readme import fill, metrics

from jobmatch.core.runs import DEFAULT_RUN, read_json, resolve, write_atomic

CARD = Path(__file__).resolve().parents[1] / "nbs" / "guides" / "model_card.ipynb"
STAGES = ("data", "bi_train", "cross_train", "full_pipeline")


def how_it_was_made(run: Path) -> str:
    "A table from the `run.json` files: versions, data, parameters, time."
    records = {stage: read_json(run / stage / "run.json") for stage in STAGES}
    matcher, last = read_json(run / "model" / "matcher.json"), records["full_pipeline"]
    counts = records["data"]["metrics"]
    rows = [
        ("model version", matcher["model_version"]),
        ("taxonomy version", matcher["taxonomy_version"]),
        ("finished", last["finished"][:10]),
        ("jobs", ", ".join(f"{counts.get(f'{split}.jobs', 0):,.0f} {split}" for split in ("train", "dev", "golden"))),
        *((f"parameters of {stage}", _settings(record["parameters"])) for stage, record in records.items()),
        *((f"seconds of {stage}", f"{record['seconds']:,.0f}") for stage, record in records.items()),
        ("device", last["device"]),
        ("versions", _settings(last["versions"])),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


def _settings(values: dict) -> str:
    shown = {n: Path(v).name if n == "golden_dir" and v else v for n, v in values.items()}  # where it lies is nobody else's concern
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value not in (None, ""))


def filled(notebook: dict, run: Path) -> dict:
    "The card with the figures of a run in their places."
    unfinished = [stage for stage in STAGES if not (run / stage / "run.json").is_file()]
    if unfinished:
        sys.exit(f"model_card: {run} is not a finished run, it lacks {', '.join(unfinished)}; make it with: jobmatch run --run {run}")
    fill(notebook, "run", how_it_was_made(run))
    fill(notebook, "metrics", metrics(run))
    return notebook


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default=DEFAULT_RUN, help=f"a finished run (default: {DEFAULT_RUN})")
    notebook = filled(json.loads(CARD.read_text(encoding="utf-8")), resolve(parser.parse_args().run))
    text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_atomic(CARD, lambda p: p.write_text(text, encoding="utf-8"))
    print(f"{CARD.name}: filled in")


if __name__ == "__main__":
    main()
