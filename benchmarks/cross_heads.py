"""Where a fresh cross-encoder head should read from: the mean of the tokens or the first one, on the stock body or the trained one.

Needs a run with the stages up to 03 (`make run` makes one): python benchmarks/cross_heads.py [--run outputs/esco] [--pairs 4000]
Prints average precision on dev pairs after one pass over the same pairs, as a Markdown table.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from jobmatch.core.encoders import load_cross, quiet, score_pairs
from jobmatch.core.runs import read_frame, resolve
from jobmatch.core.sources import model_path
from jobmatch.core.training import fit
from jobmatch.cross_train import pair_metrics, precision_on_dev


def first_token(path: str) -> "sentence_transformers.CrossEncoder":
    "The usual head, on the pooled first token."
    from sentence_transformers import CrossEncoder

    with quiet():
        return CrossEncoder(path, num_labels=1, max_length=512, device="cpu")


def main():
    from transformers import set_seed

    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--run", default="outputs/esco")
    args.add_argument("--pairs", type=int, default=4000)
    args = args.parse_args()
    run = resolve(args.run)
    train, dev = (read_frame(run / "cross_data" / f"{n}.parquet").query("level == 'sentence'") for n in ("train", "dev"))
    bodies = {"stock": str(model_path("mini")), "trained bi-encoder": str(run / "bi_train" / "model")}
    rows = []
    for body, path in bodies.items():
        for head, load in (("mean", lambda p: load_cross(p, "cpu", "float32")), ("first token", first_token)):
            set_seed(42)
            encoder = load(path)
            part, pairs = dev.head(2000), train.head(args.pairs)[["text", "passage", "label"]].astype(dict(label=float))
            with tempfile.TemporaryDirectory() as d:
                history = fit(encoder, pairs, BinaryCrossEntropyLoss(encoder), precision_on_dev(part), Path(d), epochs=1.0, batch_size=32,
                              learning_rate=2e-4, eval_steps=200, seed=42)
            figures = pair_metrics(score_pairs(encoder, list(zip(part.text, part.passage))), part.label)
            rows.append(dict(body=body, head=head, **figures, last_train_loss=history.train_loss.dropna().iloc[-1]))
            print(rows[-1], flush=True)
    print(f"share of positive dev pairs (average precision of guessing): {dev.head(2000).label.mean():.3f}")
    print(pd.DataFrame(rows).round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
