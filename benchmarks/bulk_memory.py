"""Peak memory of `jobmatch bulk` as ads become more: python benchmarks/bulk_memory.py [--ads 1000 5000] [--model outputs/esco/model] [--device cpu]

Each number of ads is matched by a process of its own, which says its peak of resident memory; the ads are short ones, drawn from sentences of our lines, so that the model is
not what is measured. The figures go to benchmarks/bulk_memory.json.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobmatch.core.runs import resolve, root, write_json

MEASURE = """
import json, resource, sys
from jobmatch.cli import main
status = main(["bulk", *sys.argv[1:]])
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps(dict(status=status, peak_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), largest_worker_mib=round(children / 1024))))
"""


def write_ads(path: Path, n: int) -> None:
    "Ads of four sentences, all different."
    rng = random.Random(n)
    with open(root() / "data" / "lines" / "ad_lines.tsv", encoding="utf-8", newline="") as f:
        lines = [row["text"] for row in csv.DictReader(f, delimiter="\t")]
    with open(path, "w", encoding="utf-8") as f:
        for i in range(n):
            f.write(json.dumps(dict(job_id=str(i), text="\n".join([*rng.sample(lines, 4), f"Ad {i}."]))) + "\n")


def measure(n: int, model: str, device: str) -> dict:
    with tempfile.TemporaryDirectory() as d:
        write_ads(Path(d) / "ads.jsonl", n)
        begin = time.monotonic()
        said = subprocess.run([sys.executable, "-c", MEASURE, f"{d}/ads.jsonl", f"{d}/out", "--model", model, "--device", device], stdout=subprocess.PIPE, text=True, check=True)
        return dict(ads=n, **json.loads(said.stdout.splitlines()[-1]), seconds=round(time.monotonic() - begin, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ads", type=int, nargs="+", default=[1000, 5000], help="(default: 1000 5000; 100000 takes hours without a GPU)")
    parser.add_argument("--model", default="outputs/esco/model")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    found = []
    for n in args.ads:
        found.append(measure(n, str(resolve(args.model)), args.device))
        print(found[-1], flush=True)
    write_json(Path(__file__).with_suffix(".json"), found)


if __name__ == "__main__":
    main()
