"""Make .venv and install jobmatch into it, with the versions of constraints.txt: python3.11 scripts/install.py [extra …]"""

import os
import shutil
import subprocess
import sys
import threading
import urllib.request
import venv
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def say(line: str):
    print(f"install: {line}", flush=True)


def pip(*args: str) -> str:
    "Run pip, showing a line for every 25 packages; the end of its output where it fails, else nothing."
    cmd = [VENV / "bin/python", "-m", "pip", "install", "--progress-bar", "off", "--disable-pip-version-check", *args]
    tail, n = deque(maxlen=40), 0
    with subprocess.Popen(cmd, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        for line in run.stdout:
            tail.append(line)
            n += line.startswith("Collecting ")
            if line.startswith("Collecting ") and n % 25 == 0:
                say(f"{n} packages fetched")
            if line.startswith("Installing collected packages:"):
                say(f"unpacking {line.count(',') + 1} packages")
    return "".join(tail) if run.returncode else ""


def install(*args: str):
    if failure := pip(*args):
        sys.exit(f"{failure}\ninstall: pip failed; the lines above say why. Run the same make command again to go on.")


def has_nvidia() -> bool:
    "Whether an NVIDIA driver is on this machine."
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def offers(
    index: str,
    pin: str,  # "torch==2.13.0"
    seconds: float = 4,  # the answer must be there by then
) -> bool:
    "Whether a package index answers in time and has that version."
    name, version = pin.split("==")
    answer = []

    def ask():
        try:
            with urllib.request.urlopen(f"{index}/{name}/", timeout=seconds) as page:
                answer.append(f"{name}-{version}" in page.read().decode("utf-8", "replace"))
        except OSError:
            answer.append(False)

    thread = threading.Thread(target=ask, daemon=True)  # a name server that does not answer knows no time limit
    thread.start()
    thread.join(seconds)
    return answer == [True]


def install_torch(pin: str):
    "Alone and first: whatever is resolved beside it may ask for the newest build, which is several GB."
    if list(VENV.glob("lib/python*/site-packages/torch/version.py")):
        return
    if has_nvidia():
        say(f"{pin} for this machine's NVIDIA GPU (once; several GB)")
    elif offers(CPU_INDEX, pin):
        say(f"{pin}, the build without CUDA from {CPU_INDEX}: no NVIDIA GPU here (once; some hundred MB)")
        if not pip("--no-deps", "--index-url", CPU_INDEX, pin):
            return
        say("that build does not fit this machine; taking what the package index gives")
    else:
        say(f"{pin} as the package index gives it: {CPU_INDEX} does not answer (once; a few minutes)")
    install(pin, "-c", "constraints.txt")


def main(extras: list[str]):
    if sys.version_info[:2] != (3, 11):
        sys.exit(f"install: Python 3.11 is needed, this is {sys.version.split()[0]}; name one with: make PYTHON=/path/to/python3.11 …")
    if not (VENV / "bin/pip").exists():
        say("making .venv")
        venv.create(VENV, with_pip=True, clear=True)
    install_torch(next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")))
    extras = extras if has_nvidia() else ["fast", *extras]
    target = f".[{','.join(extras)}]" if extras else "."
    say(f"jobmatch{target[1:]} and what it needs")
    install("--use-pep517", "-e", target, "-c", "constraints.txt")


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)  # a stray package on it would be taken for an installed one
    main(sys.argv[1:])
