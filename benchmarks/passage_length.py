"""How much of an attribute the cross-encoder should read: python benchmarks/passage_length.py [--run outputs/esco] [--pairs 12000]

One pass over the same train pairs with passages of different length; average precision on 2,000 dev pairs, and how many of these are read in a second. Needs a run with the stages 00 to 03.
Prints a Markdown table.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from jobmatch.core.encoders import load_cross, score_pairs
from jobmatch.core.runs import read_frame, resolve
from jobmatch.core.runtimes import rate
from jobmatch.core.training import figures, fit, save_model
from jobmatch.cross_train import precision_on_dev

LENGTHS = ((0, 0), (1, 0), (0, 12), (3, 24))  # aliases, and words of the definition


def passage(row: dict, aliases: int, words: int) -> str:
    "An attribute's text: name; alias; alias. definition."
    names = "; ".join([row["name"].rstrip(". "), *list(row["aliases"])[:aliases]])
    return f"{names}. {' '.join(row['definition'].split()[:words])}" if words and row["definition"] else names


def learned(run: Path, pairs: pd.DataFrame, dev: pd.DataFrame) -> tuple[float, float]:  # average precision, pairs a second
    "What one pass over the pairs brings, starting from the run's own bi-encoder."
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    torch.manual_seed(42)
    model = load_cross(str(run / "bi_train" / "model"), device="cpu", dtype="float32")
    with tempfile.TemporaryDirectory() as d:
        rows = pairs[["text", "passage", "label"]].astype(dict(label=float))
        history = fit(model, rows, BinaryCrossEntropyLoss(model), precision_on_dev(dev), Path(d) / "checkpoints", epochs=1.0, batch_size=32, learning_rate=1e-4, eval_steps=10**6, seed=42)
        served = load_cross(str(save_model(model, Path(d) / "model")))
        few = list(zip(dev.text, dev.passage))
        return figures(history)[1]["average_precision"], rate(lambda: score_pairs(served, few), len(few), rounds=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="outputs/esco")
    parser.add_argument("--pairs", type=int, default=12_000)
    args = parser.parse_args()
    run = resolve(args.run)
    attributes = read_frame(run / "data" / "attributes.parquet").to_dict("records")
    train, dev = (read_frame(run / "cross_data" / f"{split}.parquet") for split in ("train", "dev"))
    print("| aliases | words of the definition | average precision | pairs a second |\n|---:|---:|---:|---:|")
    for aliases, words in LENGTHS:
        text = {r["attribute_id"]: passage(r, aliases, words) for r in attributes}
        precision, speed = learned(run, *(t.assign(passage=t.attribute_id.map(text)) for t in (train.head(args.pairs), dev.head(2000))))
        print(f"| {aliases} | {words} | {precision:.3f} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
