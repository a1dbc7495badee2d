"""Build the documentation site from the notebooks: python scripts/docs.py; then python -m http.server -d _docs

nbdev's processors turn the notebooks into pages (exported cells become documented signatures, hidden cells go), smalldocs renders
them, strictly: a broken link or an option nobody reads fails the build. Neither needs Quarto or the network.
"""

import ast
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from fastcore import docments
from nbdev.config import get_config
from nbdev.serve import proc_nbs

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ("my_data", "my_taxonomy", "many_ads", "gpus", "kafka", "good_enough", "scores", "data_card", "model_card")
SECTIONS = {
    "Guides": r"guides/.*\.ipynb",
    "Stages": r"0[0-5]_.*\.ipynb",
    "Live": r"((0[6-9]|[1-9]\d)_.*|live/.*)\.ipynb",
    "Tools": r"(?!index)[a-z]\w*\.ipynb",
    "Building blocks": r"core/.*\.ipynb",
}


PROJECT = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")  # files of the repository that are pages as well


def page_name(path: Path) -> Path:
    "A page's path in the site: without the number in front, as modules are named."
    return path.with_name(re.sub(r"^\d+_", "", path.name))


def quoted_annotations():
    "Let `show_doc` print an annotation in quotes that names what is not imported (heavy packages are imported where they are used)."
    evaluate = docments.signature

    def signature(f, *, eval_str=False, **kwargs):
        try:
            return evaluate(f, eval_str=eval_str, **kwargs)
        except NameError:
            return evaluate(f, **kwargs)

    docments.signature = signature


def split_openings(folder: Path) -> Path:
    "Copy the notebooks, with title and `> ` line in a cell of their own: nbdev makes that cell a page's head, and drops the rest of it."
    for path in (ROOT / "nbs").rglob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        first = notebook["cells"][0]
        head = re.match(r"# .*\n+> .*\n?", "".join(first["source"]))
        if head:
            rest = {**first, "id": "opening", "source": module_line(notebook) + "".join(first["source"])[head.end() :].lstrip("\n")}
            notebook["cells"][:1] = [{**first, "source": head[0]}, rest]
        target = folder / path.relative_to(ROOT / "nbs")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(notebook), encoding="utf-8")
    return folder


def module_line(notebook: dict) -> str:
    "Which module a page documents: the titles are in words."
    exports = re.search(r"^#\| ?default_exp (\S+)", "\n".join("".join(c["source"]) for c in notebook["cells"]), re.M)
    return f"*Module* `jobmatch.{exports[1]}`\n\n" if exports else ""


def fold_in_source(text: str) -> str:
    "Put a symbol's code, folded, where nbdev links to a host that a reader may not reach."
    link = re.search(r"\[source\]\([^)]*/(jobmatch/[\w/]+\.py)#L(\d+)\)\{[^}]*\}\n+", text)
    if not link:
        return text
    code = (ROOT / link[1]).read_text(encoding="utf-8")
    line = int(link[2])
    nodes = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    spans = [(min([n.lineno, *(d.lineno for d in n.decorator_list)]), n.lineno, n.end_lineno) for n in nodes]
    lines = next((code.splitlines()[first - 1 : last] for first, own, last in spans if line in (first, own)), [])
    fold = "\n\n::: {.callout-note collapse=true title='Source'}\n```python\n" + "\n".join(lines) + "\n```\n:::\n" if lines else ""
    return text[: link.start()] + text[link.end() :] + fold


def copy_pages(cache: Path, site: Path) -> list[Path]:
    "Copy the processed notebooks under their pages' names; the notebooks' paths in the order of reading."
    sources = sorted(p.relative_to(cache) for p in cache.rglob("*.ipynb") if site not in p.parents)
    for path in sources:
        notebook = json.loads((cache / path).read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "raw":
                source = re.sub(r"^output-file: .*\n", "", source, flags=re.M)
            for output in cell.get("outputs", []):
                shown = output.get("data", {})
                if "text/markdown" in shown:
                    shown["text/markdown"] = fold_in_source("".join(shown["text/markdown"]))
            cell["source"] = re.sub(r"(\]\((?:[\w/.]*/)?)\d\d_(\w+\.(?:ipynb|html))", r"\1\2", source)
        target = site / page_name(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(notebook), encoding="utf-8")
    return sources


def copy_project(site: Path) -> None:
    "Copy the repository's own pages; their links to notebooks become links to pages."
    for name in PROJECT:
        text = re.sub(r"\]\(nbs/((?:\w+/)*)(?:\d\d_)?(\w+\.ipynb)", r"](\1\2", (ROOT / name).read_text(encoding="utf-8"))
        (site / name).write_text(text, encoding="utf-8")


def plots(notebook: dict) -> Iterator[tuple[str, bytes]]:
    "The plots that a notebook shows, each with the heading above it."
    heading = ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            heading = next(reversed(re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.M)), heading)
        for output in cell.get("outputs", []):
            if image := output.get("data", {}).get("image/png"):
                yield heading, base64.b64decode("".join(image))


def write_gallery(site: Path, sources: list[Path]) -> None:
    "A page with the plots of all notebooks; each heading leads to the page that explains them."
    parts = ["# Gallery\n", "The plots of all chapters. The heading leads to the chapter that makes and explains them.\n"]
    (site / "images" / "gallery").mkdir()
    for path in sources:
        notebook, page = json.loads((ROOT / "nbs" / path).read_text(encoding="utf-8")), page_name(path)
        for i, (heading, image) in enumerate(plots(notebook)):
            name = f"images/gallery/{'-'.join(page.with_suffix('').parts)}-{i}.png"
            (site / name).write_bytes(image)
            title = "".join(notebook["cells"][0]["source"]).splitlines()[0].lstrip("# ")
            parts += [f"## [{title}]({page.as_posix()})\n"] * (i == 0) + [f"![{title}: {heading}]({name})\n"]
    (site / "gallery.md").write_text("\n".join(parts), encoding="utf-8")


def in_order(sources: list[Path]) -> list[Path]:
    "The guides in the order of `GUIDES`, all else as it is."
    return sorted(sources, key=lambda p: GUIDES.index(p.stem) if p.parent.name == "guides" else 0)


def site_config(sources: list[Path]) -> dict:
    "The site's options: a section in the sidebar for each kind of notebook."
    cfg = get_config()
    contents = ["index.ipynb"] if Path("index.ipynb") in sources else []
    for section, pattern in SECTIONS.items():
        pages = [page_name(p).as_posix() for p in in_order(sources) if re.fullmatch(pattern, p.as_posix())]
        contents += [{"section": section, "contents": pages}] if pages else []
    contents.append({"section": "Project", "contents": ["gallery.md", *PROJECT]})
    return {
        "project": {"type": "website", "output-dir": "_site"},
        "format": {"html": {"theme": {"light": "cerulean", "dark": "slate"}, "css": "docs.css", "toc": True, "code-copy": True}},
        "website": {
            "title": cfg.title,
            "description": cfg.description,
            "navbar": {"search": True, "left": [{"href": page, "text": text} for page, text in NAVBAR if page in _flat(contents)]},
            "sidebar": {"style": "floating", "search": True, "contents": contents},
            "page-navigation": True,
        },
    }


NAVBAR = [("guides/my_data.ipynb", "Guides"), ("data.ipynb", "Stages"), ("feature_store.ipynb", "Live"), ("cli.ipynb", "Command line")]


def _flat(contents: list) -> set[str]:
    return {page for entry in contents for page in (entry["contents"] if isinstance(entry, dict) else [entry])}


def build() -> Path:
    quoted_annotations()
    with tempfile.TemporaryDirectory() as scratch:
        # in this process alone: the patch above would not reach others
        cache = proc_nbs(split_openings(Path(scratch)), force=True, n_workers=0)
    site = cache / "_pages"
    sources = copy_pages(cache, site)
    copy_project(site)
    shutil.copy(ROOT / "scripts" / "docs.css", site / "docs.css")
    shutil.copytree(ROOT / "nbs" / "images", site / "images")
    write_gallery(site, in_order(sources))
    (site / "_quarto.yml").write_text(yaml.safe_dump(site_config(sources), sort_keys=False), encoding="utf-8")
    if subprocess.run([Path(sys.executable).parent / "smalldocs", "render", "--strict", "--quiet", site]).returncode:
        sys.exit("docs: smalldocs found something wrong; the lines above say where")
    docs = ROOT / "_docs"
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(site / "_site", docs)
    return docs


if __name__ == "__main__":
    docs = build()
    print(f"{len(list(docs.rglob('*.html')))} pages in {docs}; to read them: python -m http.server -d {docs}")
