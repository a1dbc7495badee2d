"""Take what the stages showed in a run into the notebooks of the repository: python scripts/outputs.py [--run outputs/esco]

So the documentation shows the tables and plots of the full run rather than those of a test-sized one. A cell is recognised by its
source; progress bars, displays without content and notes on standard error are left behind.
"""

import argparse
from functools import partial

import nbformat

from jobmatch.core.runs import resolve, root, write_atomic


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="outputs/esco", help="a run that `jobmatch run` made")
    folder = resolve(parser.parse_args().run) / "notebooks"
    for path in sorted(folder.glob("0[0-5]_*.ipynb")):
        target = root() / "nbs" / path.name
        kept = nbformat.read(target, as_version=4)
        n = take_outputs(kept, nbformat.read(path, as_version=4))
        write_atomic(target, partial(nbformat.write, kept))
        print(f"{target.name}: outputs of {n} cells")


if __name__ == "__main__":
    main()
