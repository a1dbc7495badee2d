"""Write data/esco/cuts.tsv from the official ESCO download: python scripts/esco_cuts.py skills_en.csv

The package that carries ESCO 1.2.0 runs name, aliases and definition of a skill together. Most are cut by the labels of version 1.1.1;
for skills that are newer or were renamed since, this file says where in the text the name ends and where the definition starts.
"""

import csv
import sys
from pathlib import Path

import pandas as pd

from jobmatch.core.sources import _cut_by_labels, _esco_texts, _old_labels

OUT = Path(__file__).resolve().parents[1] / "data" / "esco" / "cuts.tsv"


def plain(text: str) -> str:
    return " ".join(text.split())


def main(path: str):
    official = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("conceptUri")
    names, aliases = _old_labels()
    rows = []
    for uri, text in _esco_texts().items():
        key, row = uri.rsplit("/", 1)[1], official.loc[uri]
        name, definition = plain(row.preferredLabel), plain(row.description)
        cut = _cut_by_labels(text, names[key], aliases.get(key, [])) if key in names else None
        if cut and (cut[0], cut[2]) == (name, definition):
            continue
        if not (text.startswith(name) and text.endswith(definition)):
            print(f"{uri}: the text is not made of this name and definition; left to the labels")
            continue
        rows.append((key, len(name), len(text) - len(definition)))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    with open(OUT, "w", newline="", encoding="utf-8") as f:
        csv.writer(f, delimiter="\t", lineterminator="\n").writerows([("skill", "name_end", "definition_start"), *sorted(rows)])
    print(f"{OUT}: {len(rows)} of {len(official)} skills")


if __name__ == "__main__":
    main(*sys.argv[1:])
