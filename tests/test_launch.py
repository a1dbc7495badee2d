"One training in two processes, as a launcher starts them on two GPUs: same steps, one writer."

import subprocess
import sys
from pathlib import Path

import pandas as pd

from jobmatch.core.runs import read_frame, read_json, write_frame
from jobmatch.tiny import tiny_run


def small_data(folder: Path) -> Path:
    "A few pairs of the tiny run, with the attributes they need."
    source = tiny_run("data") / "data"
    train, dev = (read_frame(source / f"{n}.parquet").query("label == 1").head(32) for n in ("train_samples_final", "dev_samples_1k"))
    attributes = read_frame(source / "attributes.parquet")
    needed = set(train.attribute_id) | set(dev.attribute_id)
    for name, table in (("train_samples_final", train), ("dev_samples_1k", dev), ("attributes", attributes[attributes.attribute_id.isin(needed)])):
        write_frame(table, folder / "data" / f"{name}.parquet")
    return folder


def test_two_processes_train_one_model(tmp_path):
    run = small_data(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "jobmatch.bi_train", str(run)]
    done = subprocess.run([*command, "--batch_size", "4", "--eval_steps", "2"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    history = pd.read_csv(run / "bi_train" / "history.csv")
    pairs = read_frame(run / "data" / "train_samples_final.parquet").drop_duplicates(["sentence", "attribute_id"])
    assert history.step.max() == -(-len(pairs) // 8)  # each process takes half of the batches
    assert (run / "bi_train" / "model" / "model.safetensors").is_file()
    assert set(read_json(run / "bi_train" / "run.json")["metrics"]) > {"dev_1k.recall@10"}
