"""Make the picture of README.md from a finished run: python scripts/picture.py [--run outputs/esco]

The page is what `jobmatch match AD --html` writes, photographed by Chromium (or Chrome), which must be installed.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AD = "examples/ads/warehouse_bullets.txt"
WIDTH, HEIGHT = 1100, 800  # pixels; the height is at least this


def main():
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="outputs/esco", help="a run that `jobmatch run` made")
    run = parser.parse_args().run
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        sys.exit("picture: no chromium and no google-chrome here; install one")
    with tempfile.TemporaryDirectory() as d, sync_playwright() as p:
        page_file = Path(d) / "match.html"
        subprocess.run([sys.executable, "-m", "jobmatch.cli", "match", AD, "--model", f"{run}/model", "--html", str(page_file)], check=True, cwd=ROOT)
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_file.as_uri())
        page.screenshot(path=str(ROOT / "nbs" / "images" / "match.png"), full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
