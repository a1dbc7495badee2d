"A controller that is killed between moving the alias and saving that it did: however it goes on, alias and state come to agree."

import subprocess
import sys

import pytest

pytest.importorskip("confluent_kafka")
pytest.importorskip("mlflow")

from jobmatch.core.runs import write_json  # noqa: E402
from jobmatch.live.canary import begin_canary, end_canary, load_state, run_check, start_canary  # noqa: E402
from jobmatch.live.registry import find, open_registry, register, set_alias  # noqa: E402

KILLED = """
import os, signal, sys
from jobmatch.live import canary
from jobmatch.live.registry import open_registry
canary.save_state = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
canary.end_canary("promote", open_registry(sys.argv[1]))
"""


@pytest.fixture
def cut_off(tmp_path):
    "A registry and a log's folder; the rollout's promotion was killed after the alias had moved."
    uri = f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}"
    registry = open_registry(uri)
    for alias, version in (("champion", "old"), ("challenger", "new")):
        write_json(tmp_path / version / "matcher.json", dict(model_version=version, taxonomy_version="1"))
        set_alias(alias, register(tmp_path / version, registry), registry)
    begin_canary("models:/jobmatch@challenger", "models:/jobmatch@champion", registry)
    assert subprocess.run([sys.executable, "-c", KILLED, uri], timeout=300).returncode == -9
    assert outcome(registry) == ("running", "models:/jobmatch/2")
    return registry, tmp_path / "log"


def outcome(registry: object) -> tuple[str, str]:
    return load_state(registry)["status"], find("models:/jobmatch@champion", registry)["address"]


def test_the_next_check_finishes_the_promotion_once(cut_off):
    registry, log = cut_off
    told = []
    assert run_check(log, registry, told.append)["status"] == "promoted"
    assert outcome(registry) == ("promoted", "models:/jobmatch/2") and len(told) == 1
    assert [r["reason"] for r in load_state(registry)["record"]] == ["the alias points to it already"]
    with pytest.raises(LookupError, match="the last one was promoted"):
        run_check(log, registry)


def test_a_controller_that_starts_again_ends(cut_off):
    registry, log = cut_off
    assert start_canary(folder=str(log), every=1, registry=registry)["status"] == "promoted"
    assert outcome(registry) == ("promoted", "models:/jobmatch/2")


def test_a_rollback_by_hand_takes_the_alias_back(cut_off):
    registry, log = cut_off
    end_canary("rollback", registry)
    assert outcome(registry) == ("rolled back", "models:/jobmatch/1")
