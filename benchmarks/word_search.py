"""How the words of ads find names: by comparing all vectors, or through a graph: python benchmarks/word_search.py [--run outputs/esco]

Queries are the telling words of the lines of golden ads, by the thousands; each wants eight names. Both answer in turns; the best of three rounds counts. Prints microseconds a
word, the share of the exact answer that the graph finds, seconds to build it, and its size.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from jobmatch.core.ann import build_graph, build_index, save_index, search
from jobmatch.core.encoders import encode_words
from jobmatch.core.matcher import WORD_K, Matcher
from jobmatch.core.runs import read_frame, resolve

BATCH = 2500  # words that come together, as of sixteen ads


def words_of(matcher: Matcher, lines: list[str]) -> np.ndarray:  # float32 [n words, dim]
    "The vectors of the lines' telling words."
    tokens = matcher.bi.tokenizer([matcher.bi.prompts["query"] + t for t in lines], truncation=True, max_length=matcher.bi.max_seq_length)["input_ids"]
    return np.concatenate([w[matcher.telling[ids]] for w, ids in zip(encode_words(matcher.bi, lines)[1], tokens)])


def answered(index, words: np.ndarray) -> tuple[float, np.ndarray]:
    "Seconds, and the rows found."
    begin = time.perf_counter()
    rows = np.concatenate([search(index, words[i : i + BATCH], WORD_K)[1] for i in range(0, len(words), BATCH)])
    return time.perf_counter() - begin, rows


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--run", default="outputs/esco")
    run = resolve(args.parse_args().run)
    matcher = Matcher.load(run)
    lines = read_frame(run / "data" / "sentences.parquet").query("split == 'golden'").sentence.drop_duplicates().head(1000).tolist()
    words, exact = words_of(matcher, lines), build_index(matcher.names)
    begin = time.perf_counter()
    graph = build_graph(matcher.names)
    built = time.perf_counter() - begin
    rounds = [[answered(index, words) for index in (exact, graph)] for _ in range(3)]
    (wanted, found), micro = [rounds[0][i][1] for i in (0, 1)], [min(r[i][0] for r in rounds) / len(words) * 1e6 for i in (0, 1)]
    share = np.mean([len(set(w) & set(f)) / WORD_K for w, f in zip(wanted.tolist(), found.tolist())])
    with tempfile.TemporaryDirectory() as d:
        size = save_index(graph, Path(d) / "graph.faiss").stat().st_size / 1e6
    print(f"{len(words):,} words, {len(matcher.names):,} names: exact {micro[0]:.0f} us a word, graph {micro[1]:.0f}; it finds {share:.3f} of the same; built in {built:.1f} s, {size:.0f} MB")


if __name__ == "__main__":
    main()
