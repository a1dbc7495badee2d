"Trainings that are killed, that run in two processes, that learn, and that cannot learn."

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from jobmatch.bi_train import masked_rows, positive_pairs, recall_on_dev
from jobmatch.core.encoders import load_bi
from jobmatch.core.losses import MaskedMNRL
from jobmatch.core.runs import digest, read_frame, read_json, root, write_frame
from jobmatch.core.training import figures, fit, save_model
from jobmatch.tiny import tiny_run

CHILD = Path(__file__).with_name("train_child.py")
ENV = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root())}


def command(processes: int, *arguments: object) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    return [sys.executable, *launcher, str(CHILD), *map(str, arguments)]


def finish(processes: int, *arguments: object) -> None:
    done = subprocess.run(command(processes, *arguments), env=ENV, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def small_run(folder: Path) -> Path:
    "A run folder with 36 rows to train on, for both encoders, and a bi-encoder with prefixes to start from."
    read = lambda name: read_frame(tiny_run("data") / "data" / f"{name}.parquet")
    train, dev = (read(n).query("label == 1").head(36) for n in ("train_samples_final", "dev_samples_1k"))
    attributes = read("attributes")
    attributes = attributes[attributes.attribute_id.isin({*train.attribute_id, *dev.attribute_id})]
    empty = {n: read(n).head(0) for n in ("source_samples", "sentences", "labels")}
    for name, table in dict(train_samples_final=train, dev_samples_1k=dev, attributes=attributes, **empty).items():
        write_frame(table, folder / "data" / f"{name}.parquet")
    wrong = train.assign(passage=train.passage.sample(frac=1, random_state=0).to_numpy(), label=0)
    pairs = pd.concat([train.head(18), wrong.head(18)]).rename(columns=dict(sentence="text")).assign(level="sentence")
    for name in ("train", "dev"):
        write_frame(pairs[["text", "passage", "label", "level"]], folder / "cross_data" / f"{name}.parquet")
    encoder = load_bi("mini", device="cpu", dtype="float32")
    encoder.prompts = {"query": "query: ", "document": "passage: "}
    save_model(encoder, folder / "e5-shaped")
    return folder


def kill_at(step: int, log: Path, processes: int, *arguments: object) -> None:
    "SIGKILL a training and its launcher at a step."
    training = subprocess.Popen(command(processes, *arguments, log), env=ENV | {"HOLD": str(step)}, start_new_session=True,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    logs, deadline = [log.with_suffix(f".{i}") for i in range(processes)], time.monotonic() + 900
    while not all(p.exists() and len(p.read_text().split()) == step for p in logs):
        assert training.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.1)
    for process in [*psutil.Process(training.pid).children(recursive=True), training]:  # a launcher's processes have groups of their own
        process.kill()
    assert training.wait() == -signal.SIGKILL


@pytest.mark.parametrize("name, processes", [("bi", 1), ("cross", 1), ("bi", 2)])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, name, processes):
    peace, killed, stage = small_run(tmp_path / "peace"), small_run(tmp_path / "killed"), f"{name}_train"
    finish(processes, "stage", name, peace, tmp_path / "peace.log")
    weights = [(tmp_path / f"peace.{i}").read_text().split() for i in range(processes)]
    assert all(w == weights[0] for w in weights), "the processes' weights drift apart"
    measured = {p.name: p.read_text().split() for p in tmp_path.glob("peace.measured-*")}
    assert list(measured) == ["peace.measured-0"], "more than one process measured"
    assert len(measured["peace.measured-0"]) == len(set(measured["peace.measured-0"])) >= 4, "a step was measured twice"
    n_steps = len(set(weights[0]))
    assert n_steps in (9, 10)  # 34 to 36 different rows in batches of 8, twice; in the middle of the second pass it is killed
    kill_at(8, tmp_path / "first.log", processes, "stage", name, killed)
    last = next((killed / stage).glob("checkpoints-*/**/checkpoint-6"))
    torn = Path(shutil.copytree(last, last.with_name("checkpoint-9")))  # one that a kill left half written
    next(torn.glob("rng_state*")).write_bytes(b"")
    if processes > 1:  # a training of another number of processes takes other batches, so it does not go on from these
        kept = shutil.copytree(killed, tmp_path / "kept")
        kill_at(1, tmp_path / "alone.log", 1, "stage", name, killed)
        assert (tmp_path / "alone.0").read_text().split() == weights[0][:1]
        shutil.rmtree(killed)
        kept.rename(killed)
    finish(processes, "stage", name, killed, tmp_path / "second.log")
    assert all((tmp_path / f"second.{i}").read_text().split() == weights[0][6:] for i in range(processes)), "other steps than the seventh to the last"
    assert digest(killed / stage / "model" / "model.safetensors") == digest(peace / stage / "model" / "model.safetensors")
    if name == "bi":
        assert load_bi(str(killed / stage / "model")).prompts == {"query": "query: ", "document": "passage: "}
        assert load_bi(str(killed / stage / "model")).max_seq_length == 128  # as it started, not as it was cut while training
    history = [pd.read_csv(run / stage / "history.csv") for run in (peace, killed)]
    assert history[0].best.to_numpy()[-1], "the weights compared are not those of the last step"
    pd.testing.assert_frame_equal(*history)


def call(*words: object) -> str:
    done = subprocess.run([*map(str, words)], env=ENV, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_train_one_model_measure_it_once_and_jobmatch_run_keeps_it(tmp_path):
    run = small_run(tmp_path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "jobmatch.bi_train", run]
    call(*launch, "--batch_size", 8, "--eval_steps", 2, "--trainings", 2)
    record, history = read_json(run / "bi_train" / "run.json"), pd.read_csv(run / "bi_train" / "history.csv")
    assert record["processes"] == 2 and set(record["metrics"]) > {"dev_1k.recall@10", "dev_1k_stock.recall@10"}
    assert history.step.max() == 3 and history.best.sum() == 1  # 36 rows at most, in steps of 16
    assert set(history.seed.dropna()) == {42, 43} and history.seed[history.best].isna().all()  # the mean of both weights is kept
    assert (run / "bi_train" / "model" / "model.safetensors").is_file() and not list((run / "bi_train").glob("checkpoints-*"))
    made = digest(run / "bi_train")
    again = [Path(sys.executable).with_name("jobmatch"), "run", "--run", run, "--stages", "01"]
    assert "batch_size=8, as it was made" in call(*again)
    assert digest(run / "bi_train") == made
    assert "eval_steps=2, as it was made" in call(*again, "-p", "batch_size=9")  # who names one parameter keeps the others
    record = read_json(run / "bi_train" / "run.json")
    assert (record["processes"], record["parameters"]["batch_size"], record["parameters"]["eval_steps"]) == (1, 9, 2)


@pytest.mark.parametrize("options", [dict(words=0.0), dict(words=1.0), dict(mini_batch_size=2)])
def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path, options):
    anchors = ["Uses SQL and Python.", "Cooks.", "uses SQL and Python.", "Repairs engines.", "Free fruit.", "Cooks fish.", "Teaches.", "Cooks."]
    positives = ["SQL", "Cook food", "Python", "Repair vehicles", "", "Cook food", "Teach adults", "Clean kitchens"]
    (tmp_path / "rows.json").write_text(json.dumps([anchors, positives]))
    for processes in (1, 2):
        finish(processes, "loss", tmp_path / "rows.json", tmp_path / str(processes), json.dumps(options))
    (one, gradients), (two, of_two) = (torch.load(tmp_path / str(n)) for n in (1, 2))
    assert float(one) == pytest.approx(float(two), rel=1e-5)
    assert set(gradients) == set(of_two) and len(gradients) > 50
    largest = max(float(g.abs().max()) for g in gradients.values())
    assert max(float((g - of_two[n]).abs().max()) for n, g in gradients.items()) < 1e-4 * largest


def test_training_beats_stock_and_shuffled_labels_do_not(tmp_path):
    data = tiny_run("data") / "data"
    attributes, dev = (read_frame(data / f"{n}.parquet") for n in ("attributes", "dev_samples_1k"))
    attributes = read_frame(data / "attributes.parquet")
    pairs = positive_pairs(read_frame(data / "train_samples_final.parquet"), dict(zip(attributes.attribute_id, attributes.name))).head(320)
    shuffled = pairs.assign(positive=np.random.default_rng(0).permutation(pairs.positive))
    found = {}
    for name, table in (("trained", pairs), ("shuffled", shuffled)):
        rows, gold = masked_rows(table)
        encoder = load_bi("mini", device="cpu", dtype="float32", max_length=32)
        history = fit(encoder, rows, MaskedMNRL(encoder, gold), recall_on_dev(dev, attributes), tmp_path / name, epochs=1.0, batch_size=32,
                      learning_rate=1e-4, eval_steps=10, seed=0)
        before, found[name] = figures(history)
    assert found["trained"]["recall@10"] > before["recall@10"] + 0.01, (before, found)
    assert found["shuffled"]["recall@10"] < before["recall@10"], (before, found)
