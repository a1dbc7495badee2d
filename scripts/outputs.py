"""Store outputs in the notebooks of the repository, for the documentation to show:

    python scripts/outputs.py [--run outputs/esco]      in the stages' (00 to 05): what they showed in a full run
    python scripts/outputs.py nbs/live/log.ipynb …      in the notebooks that are named: what they show at the size of the tests
    python scripts/outputs.py --full nbs/08_monitor.ipynb    the same at full size, with the model of `make run`
    python scripts/outputs.py --others                  in all but the stages, at the size of the tests; 08 at full size

A cell is recognised by its source; progress bars, displays without content and notes on standard error are left behind. A notebook that would then break a rule, for instance by a
path of this machine in an output, stays as it was.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nbformat
from check_notebooks import check, notebooks
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from jobmatch.core.runs import resolve, root, write_atomic

STAGES = "0[0-5]_*.ipynb"
FULL = ("08_monitor.ipynb",)  # what it says of its figures holds at full size only
ELSEWHERE = ("index.ipynb", "explore.ipynb", "model_card.ipynb")  # made by other scripts, or for whoever opens it


def _is_result(output: nbformat.NotebookNode) -> bool:
    "Whether a reader of the documentation should see an output."
    data = output.get("data", {})
    bar = "application/vnd.jupyter.widget-view+json" in data
    empty = data.get("text/plain") == ""  # what a progress display of rich leaves when it ends
    return output.get("name") != "stderr" and not bar and not empty


def take_outputs(kept: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> int:
    "Replace the outputs of each cell of `kept` that stands in `executed` with the same source; how many cells got some."
    shown = {c.source: c.outputs for c in executed.cells if c.cell_type == "code"}
    n = 0
    for cell in kept.cells:
        if cell.cell_type == "code" and cell.source in shown:
            cell.outputs = [o for o in shown[cell.source] if _is_result(o)]
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
            n += bool(cell.outputs)
    return n


def execute(path: Path, full: bool = False) -> nbformat.NotebookNode:
    "A notebook as it runs in the tests or at full size, without the cells that are not run there."
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if "#| eval: false" not in c.source]
    os.environ |= {"JOBMATCH_TINY": "" if full else "1", "TOKENIZERS_PARALLELISM": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return NotebookClient(notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}, extra_arguments=["--log-level=CRITICAL"]).execute()


def store(target: Path, executed: nbformat.NotebookNode) -> list[str]:
    "Put the outputs into a notebook of the repository, unless it would then break a rule; the problems."
    kept = nbformat.read(target, as_version=4)
    n = take_outputs(kept, executed)
    with tempfile.TemporaryDirectory() as d:
        tried = Path(d) / target.parent.name / target.name
        tried.parent.mkdir()
        nbformat.write(kept, tried)
        problems = list(check(tried))
    if not problems:
        write_atomic(target, partial(nbformat.write, kept))
    print(f"{target.name}: outputs of {n} cells" if not problems else "\n".join([f"{target.name}: left as it was", *(f"  {p}" for p in problems)]), flush=True)
    return problems


def executed(args: argparse.Namespace) -> Iterator[tuple[Path, nbformat.NotebookNode]]:
    "The notebooks of the repository that get outputs, and what they showed."
    if not args.notebooks and not args.others:
        for path in sorted((resolve(args.run) / "notebooks").glob(STAGES)):
            yield root() / "nbs" / path.name, nbformat.read(path, as_version=4)
    for path in [p for p in notebooks() if not p.match(STAGES) and p.name not in ELSEWHERE] if args.others else [p.resolve() for p in args.notebooks]:
        try:
            yield path, execute(path, args.full or (args.others and path.name in FULL))
        except CellExecutionError as e:
            sys.exit(f"{path.name}: {str(e)[-2000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="to be executed")
    parser.add_argument("--others", action="store_true", help="execute all but the stages")
    parser.add_argument("--full", action="store_true", help="execute them at full size")
    parser.add_argument("--run", default="outputs/esco", help="a run that `jobmatch run` made (default: outputs/esco)")
    return int(any([store(*found) for found in executed(parser.parse_args())]))


if __name__ == "__main__":
    sys.exit(main())
