"Which build of PyTorch a first install takes, asked of real package indexes on this machine."

import http.server
import importlib.util
import os
import subprocess
import threading
import time
import venv
import zipfile
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIN = "torch==2.13.0"


@pytest.fixture
def install(tmp_path, monkeypatch):
    "The installer, at work in a folder of its own on a machine without a GPU."
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # of this machine; it may name other indexes
    for name in [n for n in os.environ if n.startswith("PIP_") and n != "PIP_CONFIG_FILE"]:
        monkeypatch.delenv(name)
    (tmp_path / "constraints.txt").write_text(f"{PIN}\n")
    for name, value in dict(ROOT=tmp_path, VENV=tmp_path / ".venv", has_nvidia=lambda: False).items():
        monkeypatch.setattr(module, name, value)
    return module


def wheel(folder: Path, version: str):
    "A package index with a torch that holds nothing but its name."
    folder.mkdir(parents=True)
    name = f"torch-{version}-py3-none-any.whl"
    files = {"torch/__init__.py": "", "torch/version.py": "", f"torch-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n",
             f"torch-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(folder / name, "w") as z:
        for path, text in {**files, f"torch-{version}.dist-info/RECORD": "".join(f"{f},,\n" for f in files)}.items():
            z.writestr(path, text)
    (folder / "index.html").write_text(f'<a href="{name.replace("+", "%2B")}">{name}</a>')


@pytest.fixture
def index(tmp_path):
    "Two indexes under one address: /cpu and /simple."
    wheel(tmp_path / "served" / "cpu" / "torch", "2.13.0+cpu")
    wheel(tmp_path / "served" / "simple" / "torch", "2.13.0")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def torch_after(module) -> str:
    "The version that an installation brings."
    venv.create(module.VENV, with_pip=True)
    module.install_torch(PIN)

    return installed(module)


def installed(module) -> str:
    code = "from importlib.metadata import version; print(version('torch'))"
    return subprocess.run([module.VENV / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_without_a_gpu_the_cpu_build_is_taken_where_its_index_answers(install, index, monkeypatch, capsys):
    monkeypatch.setattr(install, "CPU_INDEX", f"{index}/cpu")
    assert torch_after(install) == "2.13.0+cpu" and "no NVIDIA GPU here" in capsys.readouterr().out
    install.install_torch(PIN)
    assert capsys.readouterr().out == ""  # it stands there already


def test_else_it_is_what_the_package_index_gives(install, index, monkeypatch, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/simple")
    monkeypatch.setattr(install, "CPU_INDEX", "http://127.0.0.1:9")
    assert torch_after(install) == "2.13.0" and "does not answer" in capsys.readouterr().out


@pytest.mark.parametrize("cpu_index", ["http://127.0.0.1:9", "http://192.0.2.1", "http://no-such-host.invalid"])
def test_an_index_that_does_not_answer_costs_five_seconds_at_most(install, cpu_index):
    begin = time.monotonic()
    assert not install.offers(cpu_index, PIN)
    assert time.monotonic() - begin < 5


def test_an_index_without_the_version_is_not_taken(install, index):
    assert install.offers(f"{index}/cpu", PIN) and not install.offers(f"{index}/cpu", "torch==2.14.0") and not install.offers(f"{index}/none", PIN)
