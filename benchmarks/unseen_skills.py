"""How good a model is at skills that it never saw: python benchmarks/unseen_skills.py [--run outputs/esco] [--into outputs/unseen] [-p stage.name=value …]

A tenth of a finished run's attributes, drawn by their ids, is taken out of everything that is learned from: the taxonomy, the labels, samples of lines and aliases, and all train and dev
sentences that ask for one of them. The stages train on the rest. Then the taxonomy is made whole again as `jobmatch adapt` does it, and golden sentences and ads are measured, the held-out
tenth beside the rest. What the run's own model, which saw all of them, makes of the same sentences stands beside it. Prints a Markdown table, writes unseen_skills.json beside itself.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from jobmatch.bi_train import train_bi
from jobmatch.core.evaluation import EvalSet, report, split_set
from jobmatch.core.matcher import Matcher
from jobmatch.core.runs import read_frame, read_json, resolve, write_frame, write_json
from jobmatch.cross_data import make_pairs
from jobmatch.cross_train import train_cross
from jobmatch.full_pipeline import decided, job_table, run_pipeline, score_set

TABLES = ("attributes", "jobs", "sentences", "labels", "source_samples", "train_samples_final", "dev_samples_final", "dev_samples_1k")


def held_out(attribute_id: str) -> bool:
    "Whether an attribute is of the tenth, by its id alone."
    return int(hashlib.sha256(attribute_id.encode()).hexdigest(), 16) % 10 == 0


def without(run: Path, into: Path) -> None:
    "Copy a run's data stage, with nothing left of the held-out attributes."
    data, out = run / "data", into / "data"
    tables = {n: read_frame(data / f"{n}.parquet") for n in TABLES}
    labels = tables["labels"]
    gone = labels[labels.attribute_id.map(held_out) & (labels.label == 1)]
    asking = set(zip(gone.job_id, gone.start))
    texts = set(gone.sentence.dropna()) | set(tables["source_samples"].text[tables["source_samples"].attribute_id.map(held_out)])
    for name, table in tables.items():
        keep = np.ones(len(table), dtype=bool)
        if "attribute_id" in table:
            keep &= ~table.attribute_id.map(held_out).to_numpy()
        if {"job_id", "start"} <= set(table):  # the whole sentence goes: without the mark it would be taken to ask for nothing
            keep &= [(j, s) not in asking for j, s in zip(table.job_id, table.start)]
        for column in {"text", "sentence"} & (set(table) if name != "jobs" else set()):
            keep &= ~table[column].isin(texts).to_numpy()
        write_frame(table[keep].reset_index(drop=True), out / f"{name}.parquet")
    shutil.copy(data / "run.json", out / "run.json")


def of_some(golden: EvalSet, wanted) -> EvalSet:
    "The sentences that ask for some of the wanted attributes, and the ads, with these alone as gold."
    gold = golden.sentences.gold.map(lambda ids: [a for a in ids if wanted(a)])
    keep = golden.sentences.counts & ((gold.map(len) > 0) | (golden.sentences.gold.map(len) == 0))
    return EvalSet(golden.name, golden.sentences.assign(gold=gold, counts=keep), golden.attributes, golden.jobs.map(lambda ids: {a for a in ids if wanted(a)}), True)


def figures(matcher: Matcher, golden: EvalSet, scored: pd.DataFrame, wanted) -> dict[str, float]:
    "Recall@100 and RP@5 of sentences among all attributes; F1 of ads among the wanted ones."
    some = of_some(golden, wanted)
    gold = some.sentences.gold[some.sentences.gold.map(len) > 0]
    ranked = report(scored.assign(score=scored.p, hit=[a in set(gold.get(n, ())) for n, a in zip(scored.sentence_no, scored.attribute_id)]), "sentence_no", gold, 0.5)
    jobs = job_table(matcher, scored, some)
    jobs = jobs[jobs.attribute_id.map(wanted)]
    taken = jobs.score >= matcher.threshold
    f1 = 2 * (taken & jobs.hit).sum() / max(taken.sum() + some.jobs.map(len).sum(), 1)
    return {"recall@100": ranked["recall@100"], "rp@5": ranked["rp@5"], "ads f1": float(f1), "gold": int(some.jobs.map(len).sum())}


def measured(model: str, matcher: Matcher, golden: EvalSet) -> list[dict]:
    scored = decided(matcher, score_set(matcher, golden))
    parts = {"held out": held_out, "the rest": lambda a: not held_out(a)}
    return [dict(model=model, attributes=part, **figures(matcher, golden, scored, wanted)) for part, wanted in parts.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="outputs/esco", help="a finished run")
    parser.add_argument("--into", default="outputs/unseen", help="the run that is made")
    parser.add_argument("-p", action="append", default=[], metavar="stage.name=value", help="a parameter of a stage other than the finished run's")
    args = parser.parse_args()
    run, into = resolve(args.run), resolve(args.into)
    if not (into / "data" / "run.json").is_file():
        without(run, into)
    given = [p.partition("=")[::2] for p in args.p]
    for stage, function in dict(bi_train=train_bi, cross_data=make_pairs, cross_train=train_cross, full_pipeline=run_pipeline).items():
        settings = read_json(run / stage / "run.json")["parameters"] | {n.partition(".")[2]: type_of(v) for n, v in given if n.partition(".")[0] == stage}
        function(str(into), **(settings | (dict(golden_dir="") if stage == "full_pipeline" else {})))
    golden, whole = split_set(run / "data", "golden"), Matcher.load(run)
    adapted = Matcher.load(into).with_attributes(whole.attributes.assign(frequency=[0.0 if held_out(a) else f for a, f in zip(whole.attributes.attribute_id, whole.attributes.frequency)]))
    rows = measured("trained without the tenth, then adapted", adapted, golden) + measured("trained with all", whole, golden)
    write_json(Path(__file__).with_suffix(".json"), dict(parameters=args.p, rows=rows))
    print("| model | attributes | recall@100 | RP@5 | F1 of ads | gold marks |\n|---|---|---:|---:|---:|---:|")
    for r in rows:
        print(f"| {r['model']} | {r['attributes']} | {r['recall@100']:.3f} | {r['rp@5']:.3f} | {r['ads f1']:.3f} | {r['gold']:,} |")


def type_of(value: str) -> object:
    import ast

    return ast.literal_eval(value)


if __name__ == "__main__":
    main()
