"""Folders in the original system's files: labels of whole jobs alone, and half of them with their sentence; by sentences, and by whole ads.

On the way each stage is watched: a file of the run that it reads and does not declare could change, and the stage would still count as done."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import spacy

from jobmatch.bi_eval import eval_bi
from jobmatch.bi_train import train_bi
from jobmatch.core.matcher import Matcher
from jobmatch.core.runs import read_frame, read_json, resolve
from jobmatch.cross_data import make_pairs
from jobmatch.cross_train import train_cross
from jobmatch.data import make_data
from jobmatch.full_pipeline import run_pipeline
from jobmatch.tiny import tiny_run


def write_folder(folder: Path, with_sentence: float) -> Path:
    "The small run's jobs as a user has them; this share of the jobs has labels with their sentence."
    data = tiny_run("data") / "data"
    attributes, jobs, labels = (read_frame(data / f"{n}.parquet") for n in ("attributes", "jobs", "labels"))
    folder.mkdir()
    attributes[["attribute_id", "name", "definition"]].to_csv(folder / "Defs.tsv", sep="\t", index=False)
    jobs[["job_id", "text"]].to_csv(folder / "jobs.csv", index=False)
    whole = set(jobs.job_id.iloc[int(with_sentence * len(jobs)) :])
    labels = labels.assign(sentence=labels.sentence.where(~labels.job_id.isin(whole), ""))[["job_id", "attribute_id", "label", "sentence"]]
    labels = labels.drop_duplicates(["job_id", "attribute_id", "sentence"])
    golden = labels.job_id.isin(jobs.job_id[jobs.split == "golden"])
    columns = ["job_id", "attribute_id", "label"] + ["sentence"] * (with_sentence > 0)
    labels[~golden][columns].to_csv(folder / "all_labeled_data_1.csv", index=False)
    labels[golden][columns].to_csv(folder / "Golden_dataset_labels.csv", index=False)
    return folder


def write_splitter(folder: Path) -> str:
    "A spaCy pipeline of another kind than the embedded one."
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(folder)
    return str(folder)


@contextmanager
def opened() -> Iterator[set[Path]]:
    "The files that Python opens for reading while the block runs; what libraries open by themselves is not seen."
    found, on = set(), [True]

    def note(event: str, args: tuple) -> None:
        if on and event == "open" and isinstance(args[0], (str, Path)) and "r" in (args[1] or ""):
            found.add(Path(args[0]).absolute())

    sys.addaudithook(note)  # for as long as the process lives
    try:
        yield found
    finally:
        on.clear()


def watched(run: str, name: str, stage: Callable[..., dict], **parameters: object) -> dict:
    "Run a stage, and see that it declares what it reads of the other stages' files."
    with opened() as found:
        figures = stage(run, **parameters)
    declared = [resolve(i) for i in read_json(Path(run) / name / "run.json")["inputs"]]
    others = {p.relative_to(run) for p in found if p.is_relative_to(run)}
    others = {p for p in others if p.parts[0] not in (name, "model") and not p.parts[0].startswith(".")}  # `model` is made by the last stage
    missing = {p for p in others if not any((Path(run) / p).is_relative_to(i) for i in declared)}
    assert not missing and (others or name == "data"), f"{name} reads {sorted(map(str, missing))} without declaring it"
    return figures


@pytest.mark.parametrize("with_sentence, level", [(0.0, "sentence"), (0.5, "sentence"), (0.0, "job")])
def test_labels_of_whole_jobs_train_calibrate_and_match(tmp_path, with_sentence, level):
    run = str(tmp_path / "run")
    few = 12 if level == "job" else 0  # whole ads are long to read
    folder, splitter = str(write_folder(tmp_path / "mine", with_sentence)), write_splitter(tmp_path / "splitter")
    watched(run, "data", make_data, source=folder, n_jobs=few, n_workers=0, spacy_model=splitter)
    watched(run, "bi_train", train_bi, epochs=0)
    figures = watched(run, "bi_eval", eval_bi)
    watched(run, "cross_data", make_pairs, level=level, max_lines=0, job_positives=1, small=100)
    assert set(read_frame(tmp_path / "run" / "cross_data" / "train.parquet").level) == {level}  # no other is made
    watched(run, "cross_train", train_cross, level=level, max_pairs=32 if few else 96)
    figures |= watched(run, "full_pipeline", run_pipeline, top_k=10, runtime="fastest" if with_sentence else "torch")
    assert 0 < figures["jobs_golden.f1"] <= 1 and figures["jobs_golden.recall@100"] > 0
    assert ("golden.f1" in figures) == ("dev.f1" in figures) == (with_sentence > 0)  # no figure by sentence rests on guessed places
    labels = read_frame(tmp_path / "run" / "data" / "labels.parquet")
    gold = labels[(labels.split == "golden") & (labels.label == 1)].groupby("job_id").attribute_id.nunique().sum()
    matches = read_frame(tmp_path / "run" / "full_pipeline" / "matches.parquet")
    right = set(zip(labels.job_id[labels.label == 1], labels.attribute_id[labels.label == 1]))
    hits = sum(pair in right for pair in zip(matches.job_id, matches.attribute_id))
    f1 = 2 * hits / (len(matches) + gold)  # right matches count as right, wherever their label comes from
    assert f1 == pytest.approx(figures["jobs_golden.f1"], abs=0.03)
    ad, matcher = read_frame(tmp_path / "run" / "data" / "jobs.parquet").text.iloc[0], Matcher.load(tmp_path / "run")
    assert matcher.nlp.pipe_names == ["sentence_rules", "sentencizer"]  # as the data stage split
    assert matcher.config["level"] == level and len(matcher.match(ad, top_n=3)[0]) == 3
