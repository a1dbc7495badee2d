"A registry on a server: workers that start when it is away, and artifacts that somebody changed."

import json
import logging
import shutil
import subprocess
import sys
import time

import pytest

pytest.importorskip("mlflow")

from jobmatch.core import runs  # noqa: E402
from jobmatch.live import registry as r  # noqa: E402
from jobmatch.live.canary import begin_canary, end_canary, release_matching, save_state  # noqa: E402
from jobmatch.live.kafka import _free_port  # noqa: E402
from jobmatch.tiny import tiny_run  # noqa: E402


class Server:
    "An MLflow server of its own, which keeps artifacts as well; a context manager."

    def __init__(self, folder, port):
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
                 "--serve-artifacts", "--artifacts-destination", folder / "artifacts"]
        with open(folder / "server.log", "wb") as out:
            self.process = subprocess.Popen([sys.executable, *map(str, words)], stdout=out, stderr=subprocess.STDOUT, cwd=folder)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A folder that relative paths start from, and few tries for what is away."
    monkeypatch.setattr(r, "resolve", lambda path: tmp_path / path)
    monkeypatch.setattr(r, "PATIENCE", 3.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return tmp_path


def answering(uri: str, seconds: float = 120):
    "A client of the registry, once it answers."
    end = time.monotonic() + seconds
    while True:
        try:
            client = r.open_registry(uri)
            client.search_registered_models()
            return client
        except Exception:
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(1)


class Matching:
    "Stands for a loaded model: what a worker would make of a folder."

    def __init__(self, folder):
        self.folder, self.matcher = folder, None


def test_the_last_known_model_serves_while_the_registry_is_away(home, caplog):
    port = _free_port()
    uri = f"http://127.0.0.1:{port}"
    other = home / "other"
    shutil.copytree(tiny_run() / "model", other)
    runs.write_json(other / "matcher.json", runs.read_json(other / "matcher.json") | dict(model_version="other"))
    with Server(home, port):
        client = answering(uri)
        first, second = r.register(tiny_run() / "model", client), r.register(other, client)
        r.set_alias("champion", first, client)
        worker = release_matching(Matching, "models:/jobmatch@champion", client)
        assert not worker.champion.away and worker.serving == "models:/jobmatch/1"
        held = worker.models[worker.serving].folder
        assert runs.digest(runs.resolve(held)) == runs.digest(tiny_run() / "model")
        r.set_alias("champion", second, client)  # named, but nobody has fetched it
        worker.champion.every = 0
        assert worker.champion() == "models:/jobmatch/2"
        changed = next((home / "artifacts").rglob("models/other/matcher.json"))
        changed.write_text(changed.read_text() + " ")
        with pytest.raises(ValueError, match="models:/jobmatch/2: .* is not the folder that was registered"):
            r.model_folder("models:/jobmatch/2", client)
        assert not (home / r.FOLDER / "models" / "other").exists()
    with caplog.at_level(logging.WARNING, "jobmatch.registry"):
        late = release_matching(Matching, "models:/jobmatch@champion", r.open_registry(uri))
    assert late.champion.away and late.serving == "models:/jobmatch/1" and late.models[late.serving].folder == held
    assert "is the model that it last named and that is here: models:/jobmatch/1" in caplog.text
    with pytest.raises(ConnectionError, match="no models:/jobmatch@challenger was kept from before"):
        r.Watch("models:/jobmatch@challenger", client=r.open_registry(uri))
    with Server(home, port):
        answering(uri)
        late.champion.every = 0
        end = time.monotonic() + 30
        while late.champion.away and time.monotonic() < end:
            late.champion()
            time.sleep(0.5)
        assert late.champion() == "models:/jobmatch/2" and not late.champion.away


FOLLOWER = """
import json, sys, time
from pathlib import Path
from types import SimpleNamespace
from jobmatch.live import canary, registry

home = Path(sys.argv[1])
registry.resolve = lambda path: home / path  # a machine has folders of its own
registry.PATIENCE = 60.0  # several processes start at once
made = lambda folder: SimpleNamespace(matcher=SimpleNamespace(model_version=Path(folder).name, taxonomy_version="1"), metrics=SimpleNamespace(serving=lambda *_: None))
matching = canary.release_matching(made, registry=registry.open_registry(sys.argv[2]))
matching.champion.every = matching.look.every = matching.every = 0.2
while True:
    matching.refresh()
    seen = dict(serving=matching.matcher.model_version, challenger=matching.challenger and matching.challenger.matcher.model_version, percent=canary.percent_of(matching.state))
    print(json.dumps(seen), flush=True)
    time.sleep(0.2)
"""


class Follower:
    "A worker's view of the registry, in a process with folders of its own; a context manager."

    def __init__(self, home, uri: str):
        home.mkdir()
        self.out = home / "seen.jsonl"
        with open(self.out, "wb") as out, open(home / "errors", "wb") as errors:
            self.process = subprocess.Popen([sys.executable, "-c", FOLLOWER, str(home), uri], stdout=out, stderr=errors)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()

    def comes_to(self, seconds: float = 120, **wanted) -> None:
        end = time.monotonic() + seconds
        while not (lines := self.out.read_text().splitlines()) or runs.digest(seen(lines)) != runs.digest(wanted):
            assert time.monotonic() < end and self.process.poll() is None, f"{wanted}: {lines[-1:]}\n{self.out.with_name('errors').read_text()[-2000:]}"
            time.sleep(0.2)


def seen(lines: list[str]) -> dict:
    return json.loads(lines[-1]) if lines[-1].endswith("}") else {}


def test_workers_on_two_machines_follow_a_release(home):
    "Each fetches the models into its own folders; step, promotion and the models reach both through the server alone."
    uri = f"http://127.0.0.1:{_free_port()}"
    with Server(home, uri.rpartition(":")[2]):
        client = answering(uri)
        for alias, version in (("champion", "old"), ("challenger", "new")):
            runs.write_json(home / version / "matcher.json", dict(model_version=version, taxonomy_version="1"))
            r.set_alias(alias, r.register(home / version, client), client)
        with Follower(home / "one", uri) as one, Follower(home / "two", uri) as two:
            for worker in (one, two):
                worker.comes_to(serving="old", challenger=None, percent=0)
            state = begin_canary("models:/jobmatch@challenger", "models:/jobmatch@champion", client)
            save_state(state | dict(step=3), client)
            for worker in (one, two):
                worker.comes_to(serving="old", challenger="new", percent=25)
            assert end_canary("promote", client)["status"] == "promoted"
            for worker in (one, two):
                worker.comes_to(serving="new", challenger=None, percent=0)
        for name in ("one", "two"):
            assert {p.name for p in (home / name / r.FOLDER / "models").glob("*") if p.is_dir()} == {"old", "new"}
