"""Check that the notebooks keep the house rules: python scripts/check_notebooks.py [notebook …]"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 60
MAX_EXPORTED = 35  # a cell that is exported holds one idea
STAGE = re.compile(r"(\d\d_\w+|explore)\.ipynb")  # has a parameters cell
# paths of the machine a notebook ran on, object addresses, timings of progress bars
PRIVATE = re.compile(r"/(?:home|root|Users|tmp|work|workspace|mnt|opt|var)/[\w.-]+|0x[0-9a-f]{8,}|[A-Z]:\\\\Users|\d+:\d\d<\d+:\d\d|it/s\]")


def notebooks() -> list[Path]:
    return [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if not any(part.startswith((".", "_")) for part in p.parts)]


def check(path: Path) -> Iterator[str]:
    "Yield what is wrong with a notebook."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [(i, "".join(c["source"]), c) for i, c in enumerate(cells) if c["cell_type"] == "code"]
    yield from _opening(path, cells)
    exporting = path.name not in ("index.ipynb", "explore.ipynb") and path.parent.name != "guides"
    defaults = [i for i, source, _ in code if re.search(r"^#\| ?default_exp ", source, re.M)]
    if exporting and len(defaults) != 1:
        yield f"has {len(defaults)} cells with `#| default_exp`, it needs one"
    yield from _parameters(path, code)
    yield from _stage_call([source for _, source, _ in code], [source for _, source, c in code if "parameters" in c["metadata"].get("tags", [])])
    for i, source, cell in code:
        for problem in [*_code(source), *_exported_lines(source), *_outputs(cell)]:
            yield f"cell {i} ({_first_line(source)!r}): {problem}"


def _opening(path: Path, cells: list[dict]) -> Iterator[str]:
    first = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    if not re.match(r"# \S.*\n+> \S", first):
        yield "must begin with a Markdown cell: `# title`, an empty line, and a `> ` line that says what it is"


    title = first.partition("\n")[0]
    if path.name != "index.ipynb" and not re.match(r"# (\d\d · )?[A-Z][^_]*$", title):
        yield f"its title {title!r} must be in words, with a capital letter, and with the number in front where the file has one: `# 07 · The stream`"


def _parameters(path: Path, code: list[tuple[int, str, dict]]) -> Iterator[str]:
    tagged = [(i, source) for i, source, c in code if "parameters" in c["metadata"].get("tags", [])]
    wanted = 1 if STAGE.fullmatch(path.name) else 0
    if len(tagged) != wanted:
        yield f"has {len(tagged)} cells tagged `parameters`, it needs {wanted}"
    for i, source in tagged:
        if re.search(r"^#\| ?export", source, re.M):
            yield f"cell {i}: the parameters cell is exported; functions take values"
        try:
            lines = ast.parse(source).body
        except SyntaxError:
            continue  # said by the check of every cell
        for line in lines:
            if not _is_literal_assignment(line):
                yield f"cell {i}: a parameter must be a plain assignment of a literal, not `{ast.unparse(line)[:60]}`"


def _stage_call(sources: list[str], cells: list[str]) -> Iterator[str]:
    "Where a notebook calls `stage(run, **parameters(stage, globals()))`, its parameters cell and the stage's signature must say the same."
    called = re.search(r"\*\*parameters\((\w+), globals\(\)\)", "\n".join(sources))
    if not called or not cells:
        return
    trees = [ast.parse(source) for source in sources if f"def {called[1]}(" in source]
    stages = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == called[1]]
    if not stages:
        return  # imported from elsewhere
    arguments = stages[0].args
    defaults = dict(zip([a.arg for a in arguments.args][::-1], arguments.defaults[::-1]))
    wanted = {a.arg: (ast.unparse(a.annotation), ast.unparse(defaults[a.arg])) for a in arguments.args if a.arg in defaults}
    lines = ast.parse(cells[0]).body
    found = {line.target.id: (ast.unparse(line.annotation), ast.unparse(line.value)) for line in lines if isinstance(line, ast.AnnAssign) and line.target.id != "run"}
    plain = {line.targets[0].id: ast.unparse(line.value) for line in lines if isinstance(line, ast.Assign)}
    found |= {name: (wanted.get(name, ("",))[0], value) for name, value in plain.items() if value == "None"}  # papermill does not read `float | None`
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            yield f"parameter {name}: the cell has {found.get(name)}, {called[1]} has {wanted.get(name)}; make them the same"


def _is_literal_assignment(line: ast.stmt) -> bool:
    if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
        return False
    try:
        ast.literal_eval(line.value)
    except ValueError:
        return False
    return True


def _code(source: str) -> Iterator[str]:
    lines = source.strip().count("\n") + 1
    if lines > MAX_LINES:
        yield f"has {lines} lines, at most {MAX_LINES}; split it"
    if "nbdev_export(" in source:
        yield "calls nbdev_export(): it would rewrite the package during a run"
    if re.search(r"^#\| ?export", source, re.M) and re.search(r"^from \S+ import \*", source, re.M):
        yield "exports `import *`; name what is imported"
    if source.lstrip().startswith(("%", "!")):
        return
    try:
        tree = ast.parse("\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()))
    except SyntaxError as e:
        yield f"is not Python: {e}"
        return
    # the docs build runs every cell that is exported or imports anything, and would run the other code with it
    nodes = tree.body if re.search(r"^#\| ?export", source, re.M) else list(ast.walk(tree))
    imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body]
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes) and not all(imports):
        yield "mixes imports with other code; give the imports a cell of their own"


def _exported_lines(source: str) -> Iterator[str]:
    if re.search(r"^#\| ?export", source, re.M):
        lines = len([line for line in source.strip().splitlines() if not line.startswith("#|")])
        if lines > MAX_EXPORTED:
            yield f"exports {lines} lines, at most {MAX_EXPORTED}; split it"


def _outputs(cell: dict) -> Iterator[str]:
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            yield f"holds a stored error: {output['ename']}"
        if output.get("name") == "stderr":
            yield "holds output of standard error (a warning or a progress bar); quiet it"
        texts = [output.get("text", "")] + [v for kind, v in output.get("data", {}).items() if not kind.startswith(("image/png", "image/jpeg"))]
        for text in ("".join(t) if isinstance(t, list) else str(t) for t in texts):
            if found := PRIVATE.search(text):
                yield f"its output holds a path, an address or a timing of one machine: {found[0]!r}"


def _first_line(source: str) -> str:
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#|")]
    return lines[0][:50] if lines else ""


if __name__ == "__main__":
    paths = [Path(a).resolve() for a in sys.argv[1:]] or notebooks()
    problems = [f"{p.relative_to(ROOT)}: {problem}" for p in paths for problem in check(p)]
    print("\n".join(problems + [f"{len(paths)} notebooks checked, {len(problems)} problems"]))
    sys.exit(bool(problems))
