"""Whether a listwise loss teaches the cross-encoder more than BCE: python benchmarks/listwise.py [--run outputs/esco] [--sentences 2000] [--ads 0] [--seed 42]

Needs a run with the stages 00 and 01. All cross-encoders begin as the run's bi-encoder, learn from the same train sentences, with the positives, hard and random negatives that
`03_cross_data` draws, in one pass with about as many pairs a step, and read the same pairs of dev sentences as in `hard_negatives.py`, whose figures these are:

- BCE: each pair by itself, and as many lines that ask for nothing as sentences with gold, as `04_cross_train` learns;
- BCE, no silent lines: the same without these lines, which a list cannot hold, as nothing in it is right;
- ListNet (Cao et al. 2007): the softmax over a sentence's passages against its marks;
- LambdaLoss (Wang et al. 2018): pairs of a sentence's passages in the wrong order, weighted by what their exchange would change in NDCG.

Prints a Markdown table, writes listwise.json beside itself.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hard_negatives import dev_candidates, f1_of, learned, measure, micro

from jobmatch.core.encoders import load_bi, load_cross
from jobmatch.core.evaluation import split_set
from jobmatch.core.metrics import bootstrap
from jobmatch.core.runs import resolve, write_json
from jobmatch.core.training import attention, precision_args, set_dropout
from jobmatch.cross_data import attribute_ranker, hard_candidates, sentence_texts, text_pairs

BATCH = 32  # pairs a step
TOKENS = 100  # of a pair, about, at most


def training_pairs(run: Path, encoder, sentences: int, seed: int) -> pd.DataFrame:  # text, passage, label, kind
    "Pairs of train sentences, as many of them silent as not."
    train = split_set(run / "data", "train")
    texts, jobs = sentence_texts(train.sentences, sentences, 1.0, seed), train.jobs.to_dict()
    ranked = attribute_ranker(encoder, train.attributes, 100)(texts.text.tolist())
    hard = hard_candidates(texts, ranked, train.attributes.attribute_id.to_numpy(), jobs, near=12)
    return text_pairs(texts.assign(all_gold=[sorted(set(g) | jobs.get(j, set())) for g, j in zip(texts.gold, texts.job_id)]), hard, train.attributes, 3, 1, seed)


def lists(pairs: pd.DataFrame) -> pd.DataFrame:  # text, passages, label
    "A row a sentence, of those with something right and something wrong."
    grouped = pairs.groupby("text", sort=False).agg(passages=("passage", list), label=("label", list)).reset_index()
    return grouped[grouped.label.map(lambda marks: len(set(marks)) == 2)]


def learned_from_lists(encoder_folder: Path, rows: pd.DataFrame, loss: type, seed: int) -> "sentence_transformers.CrossEncoder":
    "A cross-encoder after one pass over the lists."
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from transformers import set_seed

    set_seed(seed)
    model = load_cross(str(encoder_folder), device="cpu", dtype="float32")
    set_dropout(model, 0.0)
    rows = rows.sample(frac=1, random_state=seed).reset_index(drop=True)
    a_step = max(1, round(BATCH / rows.passages.map(len).mean()))
    with tempfile.TemporaryDirectory() as d, attention(model, TOKENS):
        args = CrossEncoderTrainingArguments(output_dir=d, num_train_epochs=1, per_device_train_batch_size=a_step, learning_rate=1e-4, warmup_steps=0.1, seed=seed,
                                             save_strategy="no", report_to=[], logging_steps=100, dataloader_pin_memory=False, **precision_args())
        CrossEncoderTrainer(model=model, args=args, train_dataset=Dataset.from_pandas(rows, preserve_index=False), loss=loss(model, mini_batch_size=-1)).train()
    return model


def main() -> None:
    from sentence_transformers.cross_encoder.losses import LambdaLoss, ListNetLoss

    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--run", default="outputs/esco")
    args.add_argument("--sentences", type=int, default=2000, help="train sentences with gold; 0: all (default: 2000)")
    args.add_argument("--ads", type=int, default=0, help="dev ads; 0: all (default)")
    args.add_argument("--seed", type=int, default=42)
    args = args.parse_args()
    run = resolve(args.run)
    start = run / "bi_train" / "model"
    encoder = load_bi(str(start))
    dev, scored = dev_candidates(run, encoder, args.ads)
    pairs = training_pairs(run, encoder, args.sentences, args.seed)
    asking = pairs[pairs.text.isin(pairs.text[pairs.label == 1])]
    ways = {"BCE": lambda: learned(start, pairs, BATCH, args.seed), "BCE, no silent lines": lambda: learned(start, asking, BATCH, args.seed),
            "ListNet": lambda: learned_from_lists(start, lists(asking), ListNetLoss, args.seed),
            "LambdaLoss": lambda: learned_from_lists(start, lists(asking), LambdaLoss, args.seed)}
    rows, base = [], None
    for name, way in ways.items():
        row, parts = measure(name, way(), dev, scored)
        row = dict(loss=row.pop("negatives"), pairs=len(pairs if name == "BCE" else asking), **row)
        if base is not None:
            low, high = bootstrap(parts.index, lambda i: micro(parts, i) - micro(base, i))  # noqa: B023 - called at once
            row |= dict(gain=row["f1"] - micro(base, np.arange(len(base))), low=low, high=high)
        base = parts if base is None else base
        rows.append(row)
        print(row, flush=True)
    alone, read = f1_of(scored, scored.prior.to_numpy(), dev)[0], scored[scored.read]
    write_json(Path(__file__).with_suffix(".json"), dict(run=resolve(args.run).name, ads=len(dev.jobs), read=len(read), guessing=float(read.hit.mean()), f1_without=alone, rows=rows))
    print(f"{len(dev.jobs)} dev ads, {len(read)} pairs read, of which {read.hit.mean():.3f} are right; F1 without a cross-encoder {alone:.3f}")
    print(pd.DataFrame(rows).round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
