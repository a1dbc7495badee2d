"""Run by test_training.py in processes of their own.

stage <bi|cross> <run> <log>: a training stage that notes the sum of the weights before each step, under an evaluator for which the last checkpoint is the best
loss <rows.json> <out> <options as JSON>: the loss and the gradient of one batch, of which each process has an equal part
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from jobmatch import bi_train, cross_train
from jobmatch.core.encoders import load_bi
from jobmatch.core.losses import MaskedMNRL, pair_numbers
from jobmatch.core.training import _freeze_unused

RANK, WORLD = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
HOLD = int(os.environ.get("HOLD", "0"))  # the step before which a training waits to be killed


class Later(BaseEvaluator):
    "The more steps, the better; notes when each process was asked to measure."

    log: Path

    def __init__(self, *_):
        super().__init__()
        self.primary_metric = "steps"

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        with open(self.log.with_suffix(f".measured-{RANK}"), "a") as f:
            f.write(f"{steps}\n")
        return {"steps": float(steps)}


def note_steps(loss: type, log: Path) -> None:
    forward = loss.forward

    def noted(self, *args):
        with open(log.with_suffix(f".{RANK}"), "a") as f:
            f.write(f"{sum(float(p.detach().double().sum()) for p in self.model.parameters())!r}\n")
        if len(Path(f.name).read_text().split()) == HOLD:
            time.sleep(3600)  # the test kills it here
        return forward(self, *args)

    loss.forward = noted


def stage(name: str, run: str, log: str) -> None:
    bi_train.recall_on_dev, cross_train.precision_on_dev, Later.log = Later, Later, Path(log)
    note_steps(MaskedMNRL if name == "bi" else BinaryCrossEntropyLoss, Path(log))
    if name == "bi":
        bi_train.train_bi(run, model=f"{run}/e5-shaped", epochs=2.0, batch_size=8 // WORLD, max_length=16, eval_steps=3, seed=1)
    else:
        cross_train.train_cross(run, model="mini", epochs=2.0, batch_size=8 // WORLD, max_length=32, save_steps=3, seed=1)


def loss(rows: str, out: str, options: str) -> None:
    if WORLD > 1:
        torch.distributed.init_process_group("gloo")
    anchors, positives = json.loads(Path(rows).read_text())
    numbers = pair_numbers(anchors, positives)
    mine = slice(RANK * len(anchors) // WORLD, (RANK + 1) * len(anchors) // WORLD)
    model = load_bi("mini", device="cpu", dtype="float32", max_length=32).eval()
    features = [model.preprocess(texts[mine]) for texts in (anchors, positives)]
    _freeze_unused(model)
    wrapped = torch.nn.parallel.DistributedDataParallel(model) if WORLD > 1 else model
    value = MaskedMNRL(wrapped, numbers, **json.loads(options))(features, torch.tensor(numbers[mine]))
    value.backward()
    value = value.detach()
    if WORLD > 1:
        torch.distributed.all_reduce(value)
    if RANK == 0:
        torch.save((value / WORLD, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}), out)


if __name__ == "__main__":
    {"stage": stage, "loss": loss}[sys.argv[1]](*sys.argv[2:])
