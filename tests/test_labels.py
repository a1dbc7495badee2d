"Folders in the original system's files: labels of whole jobs alone, and half of them with their sentence; by sentences, and by whole ads."

from pathlib import Path

import pytest
import spacy

from jobmatch.bi_eval import eval_bi
from jobmatch.bi_train import train_bi
from jobmatch.core.matcher import Matcher
from jobmatch.core.runs import read_frame
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


@pytest.mark.parametrize("with_sentence, level", [(0.0, "sentence"), (0.5, "sentence"), (0.0, "job")])
def test_labels_of_whole_jobs_train_calibrate_and_match(tmp_path, with_sentence, level):
    run = str(tmp_path / "run")
    few = 12 if level == "job" else 0  # whole ads are long to read
    make_data(run, str(write_folder(tmp_path / "mine", with_sentence)), n_jobs=few, n_workers=0, spacy_model=write_splitter(tmp_path / "splitter"))
    train_bi(run, epochs=0)
    figures = eval_bi(run)
    make_pairs(run, level=level, max_lines=0, job_positives=1, small=100)
    assert set(read_frame(tmp_path / "run" / "cross_data" / "train.parquet").level) == {level}  # no other is made
    train_cross(run, level=level, max_pairs=32 if few else 96)
    figures |= run_pipeline(run, top_k=10, runtime="fastest" if with_sentence else "torch")
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
