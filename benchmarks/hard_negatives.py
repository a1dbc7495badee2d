"""Which hard negatives teach the cross-encoder more: those that `03_cross_data` draws, or those of sentence-transformers' `mine_hard_negatives`.

    python benchmarks/hard_negatives.py [--run outputs/esco] [--sentences 2000] [--ads 0] [--seeds 1]

Needs a run with the stages 00 and 01; where 04 is done too, its cross-encoder is the judge of a third set. All sets are of the same train sentences and have the same positives, random
negatives and silent lines, and as many hard negatives for each sentence; only which ones differs:

- ours: drawn from the first 12 that cosine and lexicon rank highest, without what is gold for the job or for an equal sentence;
- mined: the first three by cosine whose cosine is at least 5 % below the best gold one's (relative_margin=0.05);
- mined, judged: the same with the cross-encoder's probability in place of the cosine.

A cross-encoder learns one pass over each, and reads the six best pairs of every dev sentence. Average precision is over these pairs, of its logit alone; F1 is of all evidence together,
from rankers that other dev ads gave, at the best threshold; the gain has a 95 % interval over dev ads drawn again. Prints a Markdown table, writes hard_negatives.json beside itself.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from jobmatch.core.encoders import load_bi, load_cross, score_pairs
from jobmatch.core.evaluation import EvalSet, split_set
from jobmatch.core.matcher import make_matcher
from jobmatch.core.metrics import best_threshold, bootstrap, threshold_sweep
from jobmatch.core.ranking import out_of_fold
from jobmatch.core.runs import resolve, write_json
from jobmatch.core.training import fit
from jobmatch.cross_data import attribute_ranker, draw_negatives, hard_candidates, sentence_texts, text_pairs
from jobmatch.cross_train import pair_metrics, precision_on_dev
from jobmatch.full_pipeline import score_set

NEGATIVES, READ = 3, 6


class Judge:
    "A cross-encoder that is shown names, and reads passages, as it has learned to."

    def __init__(self, folder: Path, attributes: pd.DataFrame):
        self.model, self.passage = load_cross(str(folder)), dict(zip(attributes.name, attributes.passage))

    def predict(self, pairs: list[tuple[str, str]], **_) -> "torch.Tensor":
        import torch

        return torch.sigmoid(torch.as_tensor(score_pairs(self.model, [(text, self.passage[name]) for text, name in pairs])))


def mined(encoder, texts: pd.DataFrame, attributes: pd.DataFrame, judge: Judge | None) -> list[list[int]]:
    "The attribute rows that `mine_hard_negatives` finds for each text; none for silent lines, which have no positive to compare with."
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    names = dict(zip(attributes.attribute_id, attributes.name))
    pairs = [(text, names[a]) for text, gold in zip(texts.text, texts.gold) for a in gold]
    rows = mine_hard_negatives(
        Dataset.from_dict(dict(anchor=[t for t, _ in pairs], positive=[n for _, n in pairs])), encoder, corpus=attributes.name.tolist(), cross_encoder=judge,
        range_max=30, relative_margin=0.05, num_negatives=NEGATIVES, output_format="labeled-pair", batch_size=64, verbose=False).to_pandas()
    first = {name: i for i, name in reversed(list(enumerate(attributes.name)))}
    found = rows[rows.label == 0].groupby("anchor").positive.agg(lambda names: [first[n] for n in names]).to_dict()
    return [found.get(t, []) for t in texts.text]


def training_sets(run: Path, encoder, sentences: int, seed: int) -> dict[str, pd.DataFrame]:  # text, passage, label, kind
    "The sets of pairs, alike but for the hard negatives."
    train = split_set(run / "data", "train")
    attributes, ids, jobs = train.attributes, train.attributes.attribute_id.to_numpy(), train.jobs.to_dict()
    row_of = {a: i for i, a in enumerate(ids)}
    texts = sentence_texts(train.sentences, sentences, 1.0, seed)
    ranked = attribute_ranker(encoder, attributes, 100)(texts.text.tolist())
    gold = [{row_of[a] for a in g} for g in texts.gold]
    sets = {"ours": draw_negatives(hard_candidates(texts, ranked, ids, jobs, near=12), gold, NEGATIVES, seed)}
    judges = {"mined": None} | ({"mined, judged": run / "cross_train" / "model"} if (run / "cross_train" / "run.json").is_file() else {})
    for name, folder in judges.items():
        sets[name] = [m if g else o for m, o, g in zip(mined(encoder, texts, attributes, folder and Judge(folder, attributes)), sets["ours"], gold)]
    size = [min(map(len, lists)) for lists in zip(*sets.values())]
    hard = [set().union(*lists, g) for *lists, g in zip(*sets.values(), gold)]  # a random negative is none of any set's, and so the same in all
    texts = texts.assign(all_gold=[sorted({ids[r] for r in rows} | jobs.get(j, set())) for rows, j in zip(hard, texts.job_id)])
    return {name: text_pairs(texts, [r[:n] for r, n in zip(lists, size)], attributes, NEGATIVES, 1, seed) for name, lists in sets.items()}


def dev_candidates(run: Path, encoder, ads: int) -> tuple[EvalSet, pd.DataFrame]:
    "Dev ads, and the candidates of their sentences; `prior` is the probability without a cross-encoder, `read` marks the best of each sentence."
    dev = split_set(run / "data", "dev")
    if ads:
        some = set(dev.jobs.index[:ads])
        dev = EvalSet(dev.name, dev.sentences[dev.sentences.job_id.isin(some)].reset_index(drop=True), dev.attributes, dev.jobs[dev.jobs.index.isin(some)], dev.by_sentence)
    if not dev.by_sentence:
        raise SystemExit(f"{run}: no dev label has its sentence; this compares sentence by sentence")
    matcher = make_matcher(encoder, None, dev.attributes, dict(top_k=50, level="sentence"))
    scored = score_set(matcher, dev)
    scored = scored[dev.sentences.counts.to_numpy()[scored.sentence_no]].reset_index(drop=True)
    prior = out_of_fold(scored)
    rank = pd.Series(prior).groupby(scored.sentence_no).rank(method="first", ascending=False)
    return dev, scored.assign(prior=prior, read=rank <= READ)


def learned(encoder_folder: Path, pairs: pd.DataFrame, batch_size: int, seed: int) -> "sentence_transformers.CrossEncoder":
    "A cross-encoder after one pass over the pairs."
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from transformers import set_seed

    set_seed(seed)
    model = load_cross(str(encoder_folder), device="cpu", dtype="float32")
    rows = pairs.sample(frac=1, random_state=seed)[["text", "passage", "label"]].astype(dict(label=float)).reset_index(drop=True)
    steps = -(-len(rows) // batch_size)
    with tempfile.TemporaryDirectory() as d:  # measured at the ends alone: the last weights are compared, not those that some dev pairs like best
        fit(model, rows, BinaryCrossEntropyLoss(model), precision_on_dev(rows.head(batch_size)), Path(d), epochs=1.0, batch_size=batch_size, learning_rate=1e-4,
            eval_steps=10 * steps, seed=seed, desc="cross-encoder")
    return model


def f1_of(scored: pd.DataFrame, p: np.ndarray, dev: EvalSet) -> tuple[float, pd.DataFrame]:
    "Micro F1 over dev sentences at the best threshold, and by ad what it is made of: taken, hits, gold."
    taken = p >= best_threshold(threshold_sweep(p, scored.hit, dev.n_gold["sentence"]))
    gold = dev.sentences[dev.sentences.counts].groupby("job_id").gold.agg(lambda g: sum(map(len, g)))
    parts = pd.DataFrame(dict(job_id=scored.job_id, taken=taken, hits=taken & scored.hit)).groupby("job_id").sum().reindex(gold.index).fillna(0).assign(gold=gold)
    return micro(parts, np.arange(len(parts))), parts


def micro(parts: pd.DataFrame, rows: np.ndarray) -> float:
    some = parts.iloc[rows].sum()
    return float(2 * some.hits / max(some.taken + some.gold, 1))


def measure(name: str, model, dev: EvalSet, scored: pd.DataFrame) -> tuple[dict, pd.DataFrame]:
    "What a cross-encoder adds on dev."
    read = scored[scored.read]
    texts, passages = dev.sentences.sentence.to_numpy(), dev.attributes.passage.to_numpy()
    logits = score_pairs(model, list(zip(texts[read.sentence_no], passages[read.row])), progress=True)
    table = scored.assign(cross=pd.Series(logits, index=read.index).reindex(scored.index))
    f1, parts = f1_of(table, out_of_fold(table), dev)
    return dict(negatives=name, average_precision=pair_metrics(logits, read.hit)["average_precision"], f1=f1), parts


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--run", default="outputs/esco")
    args.add_argument("--sentences", type=int, default=2000, help="train sentences with gold; 0: all (default: 2000)")
    args.add_argument("--ads", type=int, default=0, help="dev ads; 0: all (default)")
    args.add_argument("--seeds", type=int, default=1, help="trainings of each set (default: 1)")
    args.add_argument("--batch_size", type=int, default=32)
    args = args.parse_args()
    run = resolve(args.run)
    encoder = load_bi(str(run / "bi_train" / "model"))
    dev, scored = dev_candidates(run, encoder, args.ads)
    alone, _ = f1_of(scored, scored.prior.to_numpy(), dev)
    rows = []
    for seed in range(42, 42 + args.seeds):
        base = None
        for name, pairs in training_sets(run, encoder, args.sentences, seed).items():
            row, parts = measure(name, learned(run / "bi_train" / "model", pairs, args.batch_size, seed), dev, scored)
            row |= dict(seed=seed, pairs=len(pairs), steps=-(-len(pairs) // args.batch_size), hard=int((pairs.kind == "hard").sum()))
            if base is not None:
                low, high = bootstrap(parts.index, lambda i: micro(parts, i) - micro(base, i))  # noqa: B023 - called at once
                row |= dict(gain=row["f1"] - micro(base, np.arange(len(base))), low=low, high=high)
            base = parts if base is None else base
            rows.append(row)
            print(row, flush=True)
    read = scored[scored.read]
    write_json(Path(__file__).with_suffix(".json"), dict(run=resolve(args.run).name, ads=len(dev.jobs), read=len(read), guessing=float(read.hit.mean()), f1_without=alone, rows=rows))
    print(f"{len(dev.jobs)} dev ads, {len(read)} pairs read, of which {read.hit.mean():.3f} are right; F1 without a cross-encoder {alone:.3f}")
    print(pd.DataFrame(rows).round(3).to_markdown(index=False))


if __name__ == "__main__":
    main()
