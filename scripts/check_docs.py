"""Open every page of the documentation in Chromium: python scripts/check_docs.py [folder]

Each page must load without an error, with all its pictures and working links inside the site, and no line of code may run out of sight.
"""

import functools
import http.server
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOOK = """() => ({
    wide: [...document.querySelectorAll('pre')].filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1)
        .map(e => e.innerText.split('\\n').reduce((a, b) => a.length > b.length ? a : b).slice(0, 100)),
    broken: [...document.images].filter(e => !e.complete || !e.naturalWidth).map(e => e.src),
    out: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    title: document.querySelector('h1') ? document.querySelector('h1').innerText : '',
    links: [...document.querySelectorAll('a[href]')].map(e => e.href).filter(h => h.startsWith(location.origin)),
    ids: [...document.querySelectorAll('[id]')].map(e => e.id),
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    "The address of a server for a folder."
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look_at(docs: Path, chromium: str) -> tuple[dict[str, dict], list[str]]:
    "What stands on each page, by its address, and what is wrong with single pages."
    from playwright.sync_api import sync_playwright

    seen, problems = {}, []
    with served(docs) as base, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        errors: list[str] = []
        # what the page takes from elsewhere (the maths) is missing without a network; nobody made an icon
        ours = lambda url: url.startswith(base) and not url.endswith("favicon.ico")
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" and ours(m.location["url"]) else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        for path in sorted(docs.rglob("*.html")):
            name = path.relative_to(docs).as_posix()
            page.goto(f"{base}/{name}")
            seen[name] = found = page.evaluate(LOOK)
            found["links"] = [link.removeprefix(f"{base}/") for link in found["links"]]
            problems += [f"{name}: a line of code runs out of sight: {line!r}" for line in found["wide"]]
            problems += [f"{name}: no picture at {src.removeprefix(base)}" for src in found["broken"]]
            problems += [f"{name}: {error}" for error in errors] + ([f"{name}: is wider than the window"] if found["out"] else [])
            problems += [] if found["title"] else [f"{name}: has no title"]
            errors.clear()
        browser.close()
    return seen, problems


def broken_links(docs: Path, seen: dict[str, dict]) -> list[str]:
    "Links inside the site that lead nowhere."
    problems = []
    for name, found in seen.items():
        for link in sorted(set(found["links"])):
            target, _, anchor = link.partition("#")
            target = target.partition("?")[0] or "index.html"
            if not (docs / target).is_file():
                problems.append(f"{name}: a link to {link}, which is not there")
            elif anchor and target in seen and anchor not in seen[target]["ids"]:
                problems.append(f"{name}: a link to {link}, where no such place is")
    return problems


def main(folder: str = "_docs") -> int:
    docs, chromium = ROOT / folder, shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("pages not looked at: no Chromium here; Debian and Ubuntu have it: apt-get install chromium")
        return 0
    seen, problems = look_at(docs, chromium)
    problems += broken_links(docs, seen)
    print("\n".join([*problems, f"{len(seen)} pages looked at, {len(problems)} problems"]))
    return 1 if problems or not seen else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
