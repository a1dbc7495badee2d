"""How search grows with the attributes: python benchmarks/index_size.py [--sizes 14000 100000 400000 1000000] [--run outputs/esco]

Vectors are those of the taxonomy's names and aliases by the run's bi-encoder; beyond as many as there are, each further one is the mean of two of them with
some noise. Queries are 500 lines of golden ads. For each size: how the vectors are searched, seconds to build, megabytes, milliseconds a query (in batches of
64), and the share of the exact 100 nearest that is found; and the same for the graph that answers the words of these lines, which want five names each (in batches of 512).
The figures go to benchmarks/index_size.json.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from jobmatch.core.ann import build_graph, build_index, search
from jobmatch.core.encoders import encode, encode_words, load_bi
from jobmatch.core.matcher import WORD_K
from jobmatch.core.runs import read_frame, resolve, write_json


def grown(vectors: np.ndarray, n: int) -> np.ndarray:
    "n vectors: the given ones, then means of two with noise."
    rng, more = np.random.default_rng(0), max(0, n - len(vectors))
    made = vectors[rng.integers(0, len(vectors), (more, 2))].mean(axis=1) + rng.normal(scale=0.01, size=(more, vectors.shape[1])).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return np.concatenate([vectors[:n], made]).astype(np.float32)


def searched(index, queries: np.ndarray, k: int, batch: int) -> tuple[np.ndarray, float]:  # rows [n, k]; milliseconds a query
    begin = time.perf_counter()
    found = np.concatenate([search(index, queries[i : i + batch], k)[1] for i in range(0, len(queries), batch)])
    return found, 1000 * (time.perf_counter() - begin) / len(queries)


def measured(name: str, build, vectors: np.ndarray, queries: np.ndarray, k: int, batch: int, wanted: np.ndarray | None = None) -> tuple[dict, np.ndarray]:
    "Build an index and ask it; without `wanted` it is the exact one."
    begin = time.perf_counter()
    index = build(vectors)
    built = time.perf_counter() - begin
    found, ms = searched(index, queries, k, batch)
    recall = 1.0 if wanted is None else float(np.mean([len(set(f) & set(w)) / len(w) for f, w in zip(found.tolist(), wanted.tolist())]))
    kind = f"{index.nlist} cells, {index.nprobe} looked into" if hasattr(index, "nlist") else "graph" if hasattr(index, "hnsw") else "all compared"
    mb = len(vectors) * (vectors.shape[1] * 2 + 4 * 2 * 16 if kind == "graph" else vectors.shape[1] * 4) / 2**20  # the graph has 16 bits a number, and 32 neighbours
    return dict(attributes=len(vectors), queries=name, search=kind, build_s=built, mb=mb, ms_a_query=ms, recall=recall), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[14_000, 100_000, 400_000, 1_000_000])
    parser.add_argument("--run", default="outputs/esco")
    args = parser.parse_args()
    run = resolve(args.run)
    bi, table = load_bi(str(run / "model" / "bi")), read_frame(run / "data" / "attributes.parquet")
    names = list(dict.fromkeys([*table.name, *(a for aliases in table.aliases for a in aliases)]))[: max(args.sizes)]
    real, lines = encode(bi, names, "document", progress=True), read_frame(run / "data" / "sentences.parquet").query("split == 'golden'").sentence
    some, rows = lines.drop_duplicates().head(500).tolist(), []
    whole, words = encode(bi, some), np.concatenate(encode_words(bi, some)[1])[:2000]
    for n in args.sizes:
        vectors, flat = grown(real, n), lambda v: build_index(v, len(v))
        for name, queries, k, batch, other in (("lines", whole, 100, 64, lambda v: build_index(v, 0)), ("words", words, WORD_K, 512, build_graph)):
            row, wanted = measured(name, flat, vectors, queries, k, batch)
            rows += [row, measured(name, other, vectors, queries, k, batch, wanted)[0]]
        print(pd.DataFrame(rows[-4:]).round(3).to_string(index=False), flush=True)
    write_json(Path(__file__).with_suffix(".json"), dict(vectors=len(real), rows=rows))


if __name__ == "__main__":
    main()
