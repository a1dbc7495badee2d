"""What the data stage takes in time and memory, as the number of ads grows.

    python benchmarks/data_scale.py [--sizes 1000 10000 100000] [--workers 2] [--form csv] [--folder FOLDER]

Writes folders of made-up ads of 2,000 characters (sentences of a few words each) with eight labels a job, half of them with their sentence, and one job in a thousand without a text;
runs the data stage on each in a process of its own, and prints a Markdown table: seconds of the clock and of the processors, the latter per 1,000 ads, and the peak of the memory of
the process and its workers together (proportional set size, sampled ten times a second). Writes data_scale.json beside itself; fails where the peak is above 1.5 GB.
"""

import argparse
import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from jobmatch.core.runs import read_json, write_json

LIMIT = 1.5  # GB
VERBS, THINGS = "weld bake drive sell teach repair plan clean write audit".split(), "steel bread lorries shoes adults engines budgets kitchens reports books".split()
SKILLS = [f"{v} {t}" for v in VERBS for t in THINGS]
FILLER = "team client daily office report quality customer system process project schedule safety".split()


def one_ad(i: int) -> tuple[dict, list[dict]]:
    "An ad of 2,000 characters and its labels."
    rng, lines, labels = random.Random(i), [], []
    for a in rng.sample(range(len(SKILLS)), 8):
        lines.append(f"You {SKILLS[a]} with the {rng.choice(FILLER)} in branch {i}.")
        labels.append(dict(job_id=f"j{i}", attribute_id=f"a{a}", label=1, sentence=lines[-1] if len(labels) % 2 else None))
    while sum(map(len, lines)) < 2000 - len(lines):
        lines.append(f"The {' '.join(rng.choices(FILLER, k=rng.randint(5, 12)))} matters to us.")
    rng.shuffle(lines)
    return dict(job_id=f"j{i}", text="\n".join(lines)[:2000]), labels


JOB, LABEL = dict(job_id=pa.string(), text=pa.string()), dict(job_id=pa.string(), attribute_id=pa.string(), label=pa.int64(), sentence=pa.string())


@contextmanager
def writer(path: Path, columns: dict) -> Iterator[Callable[[list[dict]], None]]:
    "What writes rows to a CSV or Parquet file, piece by piece."
    if path.suffix == ".parquet":
        schema = pa.schema(columns)
        with ParquetWriter(path, schema) as file:
            yield lambda rows: file.write_table(pa.Table.from_pylist(rows, schema=schema))
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            yield table.writerows


def write_ads(folder: Path, n: int, form: str) -> None:
    "A user's folder of n ads."
    folder.mkdir(parents=True)
    names = pd.DataFrame(dict(attribute_id=[f"a{i}" for i in range(len(SKILLS))], name=SKILLS, definition=""))
    names.to_csv(folder / "Defs.tsv", sep="\t", index=False)
    with writer(folder / f"jobs.{form}", JOB) as jobs, writer(folder / f"all_labeled_data_1.{form}", LABEL) as marks:
        for i in range(0, n, 1000):
            made = [one_ad(k) for k in range(i, min(i + 1000, n))]
            jobs([ad if k else ad | dict(text="") for k, (ad, _) in enumerate(made)])
            marks([label for _, labels in made for label in labels])


def memory(process: psutil.Process) -> int:  # bytes
    "Of a process and its children; pages they share are counted once."
    total = 0
    for p in [process, *process.children(recursive=True)]:
        try:
            total += p.memory_full_info().pss
        except psutil.Error:  # it just ended
            continue
    return total


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(source: Path, run: Path, workers: int) -> dict[str, float]:
    "Run the data stage in a process of its own."
    begin, used, peak = time.monotonic(), processor_seconds(), 0
    command = [sys.executable, "-m", "jobmatch.data", str(run), "--source", str(source), "--n_workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory(psutil.Process(process.pid)))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    used = processor_seconds() - used
    return dict(seconds=time.monotonic() - begin, processor_seconds=used, peak_gb=peak / 1e9, rejects=read_json(run / "data" / "run.json")["metrics"]["rejects"])


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    args.add_argument("--workers", type=int, default=2)
    args.add_argument("--form", choices=("csv", "parquet"), default="csv", help="of the folder's files (default: csv, which takes more memory to read)")
    args.add_argument("--folder", help="where to work (default: a temporary folder)")
    args = args.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as d:
        for n in args.sizes:
            write_ads(Path(d) / f"ads-{n}", n, args.form)
            found = measure(Path(d) / f"ads-{n}", Path(d) / f"run-{n}", args.workers)
            rows.append(dict(ads=n, **found, per_1000=found["processor_seconds"] / n * 1000))
            print(rows[-1], flush=True)
    write_json(Path(__file__).with_suffix(".json"), dict(form=args.form, workers=args.workers, rows=rows))
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))
    return int(max(r["peak_gb"] for r in rows) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
