"""How search grows with the attributes: python benchmarks/index_size.py [--sizes 14000 100000 1000000] [--run outputs/esco]

Vectors are those of the taxonomy's names and aliases by the run's bi-encoder; beyond as many as there are, each further one is the mean of two of them with
some noise. Queries are 500 lines of golden ads. For each size: how the vectors are searched, seconds to build, megabytes, milliseconds a query (in batches of
64), and the share of the exact 100 nearest that is found. The figures go to benchmarks/index_size.json.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from jobmatch.core.ann import build_index, search
from jobmatch.core.encoders import encode, load_bi
from jobmatch.core.runs import read_frame, resolve, write_json


def grown(vectors: np.ndarray, n: int) -> np.ndarray:
    "n vectors: the given ones, then means of two with noise."
    rng, more = np.random.default_rng(0), max(0, n - len(vectors))
    made = vectors[rng.integers(0, len(vectors), (more, 2))].mean(axis=1) + rng.normal(scale=0.01, size=(more, vectors.shape[1])).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return np.concatenate([vectors[:n], made]).astype(np.float32)


def measured(vectors: np.ndarray, queries: np.ndarray, exact: int, wanted: np.ndarray) -> dict:
    begin = time.perf_counter()
    index = build_index(vectors, exact)
    built, begin = time.perf_counter() - begin, time.perf_counter()
    found = np.concatenate([search(index, queries[i : i + 64], 100)[1] for i in range(0, len(queries), 64)])
    spent = time.perf_counter() - begin
    recall = np.mean([len(set(f) & set(w)) / len(w) for f, w in zip(found.tolist(), wanted.tolist())])
    kind = f"{index.nlist} cells, {index.nprobe} looked into" if hasattr(index, "nlist") else "all compared"
    return dict(attributes=len(vectors), search=kind, build_s=built, mb=vectors.nbytes / 2**20, ms_a_query=1000 * spent / len(queries), recall=float(recall))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[14_000, 100_000, 1_000_000])
    parser.add_argument("--run", default="outputs/esco")
    args = parser.parse_args()
    run = resolve(args.run)
    bi, table = load_bi(str(run / "model" / "bi")), read_frame(run / "data" / "attributes.parquet")
    names = list(dict.fromkeys([*table.name, *(a for aliases in table.aliases for a in aliases)]))[: max(args.sizes)]
    real, lines = encode(bi, names, "document", progress=True), read_frame(run / "data" / "sentences.parquet").query("split == 'golden'").sentence
    queries, rows = encode(bi, lines.drop_duplicates().head(500).tolist()), []
    for n in args.sizes:
        vectors = grown(real, n)
        wanted = np.concatenate([search(build_index(vectors, n), queries[i : i + 64], 100)[1] for i in range(0, len(queries), 64)])
        rows += [measured(vectors, queries, n, wanted), *([measured(vectors, queries, 0, wanted)] if n > 50_000 else [])]
        print(pd.DataFrame(rows[-2:]).round(3).to_string(index=False), flush=True)
    write_json(Path(__file__).with_suffix(".json"), dict(vectors=len(real), rows=rows))


if __name__ == "__main__":
    main()
