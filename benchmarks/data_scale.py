"""What the data stage takes in time and memory, as the number of ads grows.

python benchmarks/data_scale.py [--sizes 1000 10000 100000] [--workers 2] [--folder /tmp/…]
Writes folders of made-up ads of 2,000 characters (sentences of a few words each) with eight labels a job, half of them with their sentence, as Parquet; runs
the data stage on each in a process of its own, and prints a Markdown table: seconds of the clock and of the
processors, the latter per 1,000 ads, and the peak of the memory of the process and
its workers together (proportional set size, sampled ten times a second).
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
from pyarrow.parquet import ParquetWriter

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


def write_ads(folder: Path, n: int) -> None:
    "A user's folder of n ads, written piece by piece."
    folder.mkdir(parents=True)
    names = pd.DataFrame(dict(attribute_id=[f"a{i}" for i in range(len(SKILLS))], name=SKILLS, definition=""))
    names.to_csv(folder / "Defs.tsv", sep="\t", index=False)
    text = pa.string()
    jobs = pa.schema(dict(job_id=text, text=text))
    marks = pa.schema(dict(job_id=text, attribute_id=text, label=pa.int64(), sentence=text))
    with ParquetWriter(folder / "jobs.parquet", jobs) as a, ParquetWriter(folder / "all_labeled_data_1.parquet", marks) as b:
        for i in range(0, n, 1000):
            made = [one_ad(k) for k in range(i, min(i + 1000, n))]
            a.write_table(pa.Table.from_pylist([ad for ad, _ in made], schema=jobs))
            b.write_table(pa.Table.from_pylist([label for _, labels in made for label in labels], schema=marks))


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
    return dict(seconds=time.monotonic() - begin, processor_seconds=processor_seconds() - used, peak_gb=peak / 1e9)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    args.add_argument("--workers", type=int, default=2)
    args.add_argument("--folder", help="where to work; default: a temporary folder")
    args = args.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as d:
        for n in args.sizes:
            write_ads(Path(d) / f"ads-{n}", n)
            found = measure(Path(d) / f"ads-{n}", Path(d) / f"run-{n}", args.workers)
            rows.append(dict(ads=n, **found, per_1000=found["processor_seconds"] / n * 1000))
            print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
