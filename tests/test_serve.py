"""The review page in a real headless Chromium, against the real command with the small run's model.

JOBMATCH_SCREENSHOT=nbs/images/serve.png pytest tests/test_serve.py -k judged    makes the documentation's picture as well;
JOBMATCH_MODEL names the model it is taken with.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jobmatch.core.runs import read_frame, root
from jobmatch.core.schema import content_hash
from jobmatch.tiny import tiny_run

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium; Debian has it: apt-get install chromium")

AD = """Bicycle mechanic (m/f/d) 🚲🚲
<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">
You inspect and repair bicycles in our workshop. You advise customers & calculate the costs of repairs.
You order spare parts, keep records of stock and train new staff.
"""
PICKED = "You file letters.\r\nYou greet visitors at the desk."
HOSTILE = "<img src=x onerror='window.pwned = 1'>"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    "The service in a process of its own: its address, its log's folder and what it wrote to standard error."
    home = tmp_path_factory.mktemp("serve")
    write_stream_log(home / "log")
    (home / "ads.jsonl").write_text(json.dumps(dict(job_id="picked-1", title=f"Clerk {HOSTILE}", text=PICKED)) + "\n")
    model = os.environ.get("JOBMATCH_MODEL") or str(tiny_run() / "model")
    words = [Path(sys.executable).with_name("jobmatch"), "serve", "--model", model, "--port", "0", "--log", str(home / "log"), "--ads", str(home / "ads.jsonl"),
             "--top-n", "6", "--keep-texts", "--review"]
    with open(home / "stderr", "w+") as said, subprocess.Popen(words, cwd=home, stderr=said, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        try:
            yield wait_for_address(process, home / "stderr"), home / "log", home / "stderr"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def write_stream_log(folder: Path):
    "What a stream left of an ad that champion and challenger matched."
    found = read_frame(tiny_run() / "model" / "attributes.parquet").attribute_id[:3].tolist()
    folder.mkdir()
    for topic, ids, evidence in (("match-log", found[:2], [[0, 17], []]), ("shadow-log", found[2:], [[19, 49]])):
        scores = [dict(attribute_id=a, score=0.9, bi_score=0.5, cross_score=None) for a in ids]
        row = dict(job_id="picked-1", content_hash=content_hash(PICKED), source=None, time=datetime.now(timezone.utc).isoformat(), latency_ms=1.0, store_hit=False, chars=len(PICKED),
                   sentences=2, scores=scores, evidence=evidence, model_version=topic, taxonomy_version="1", topic="jobs", partition=0, offset=7)
        (folder / f"{topic}.jsonl").write_text(json.dumps(row) + "\n")


def wait_for_address(process, stderr: Path) -> str:
    while process.poll() is None:
        for line in stderr.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "serving":
                return json.loads(line)["address"]
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError(stderr.read_text())


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()


@pytest.fixture
def page(browser, served):
    opened = browser.new_page(viewport=dict(width=1100, height=760))
    opened.wrong = []
    opened.on("pageerror", lambda e: opened.wrong.append(str(e)))
    opened.on("console", lambda m: opened.wrong.append(m.text) if m.type == "error" else None)
    opened.goto(served[0])
    yield opened
    assert opened.evaluate("window.pwned") is None
    assert not opened.wrong
    opened.close()


def messages(folder: Path, topic: str) -> list[dict]:
    path = folder / f"{topic}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def match(page, ad: str):
    page.fill("#text", ad)
    page.click("#match")
    page.wait_for_selector("#ad:not([hidden])")


def test_an_ad_is_matched_and_judged(page, served):
    match(page, AD)
    logged = messages(served[1], "match-log")[-1]
    rows = page.locator("#found li")
    assert rows.count() == len(logged["scores"]) == 6
    assert page.locator("#ad").text_content() == AD  # as text, scripts and all
    for mark in page.locator("mark").all():
        start = int(mark.get_attribute("data-start"))
        assert AD[start:].startswith(mark.text_content())  # characters are counted, though emoji stand before
    page.fill("#who", "ada")
    rows.nth(0).get_by_text("Accept").click()
    page.wait_for_selector("#found li:nth-child(1) button[aria-pressed=true]")
    rows.nth(1).get_by_text("Reject").click()
    page.wait_for_selector("#found li:nth-child(2) button[aria-pressed=true]")
    rows.nth(0).hover()
    assert page.locator("mark.lit").count() >= 1
    if shot := os.environ.get("JOBMATCH_SCREENSHOT"):
        page.screenshot(path=root() / shot)
    given = messages(served[1], "match-feedback")[-2:]
    assert [(f["verdict"], f["who"], f["attribute_id"]) for f in given] == [
        (verdict, "ada", logged["scores"][i]["attribute_id"]) for i, verdict in enumerate(("accepted", "rejected"))]
    assert given[0]["job_id"] == logged["job_id"] and AD[given[0]["start"]:given[0]["end"]].strip()


def test_a_missing_attribute_is_added_with_its_evidence(page, served):
    match(page, AD)
    evidence = "train new staff"
    page.evaluate("""words => {
        const walker = document.createTreeWalker(document.getElementById("ad"), NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode());) {
            const at = node.data.indexOf(words);
            if (at >= 0) getSelection().setBaseAndExtent(node, at, node, at + words.length);
        }
    }""", evidence)
    page.locator("#hint").filter(has_text=evidence).wait_for()
    page.click("#query")  # which takes the selection away
    page.keyboard.type("train")
    page.locator("#offers button").first.click()
    page.locator("#said").filter(has_text="missing").wait_for()
    last = messages(served[1], "match-feedback")[-1]
    assert last["verdict"] == "missing" and AD[last["start"]:last["end"]] == evidence
    assert evidence in page.locator("#found li").last.text_content()


def test_an_ad_is_picked(page, served):
    page.wait_for_selector("#pick:not([hidden])")
    page.select_option("#pick", index=1)
    page.wait_for_selector("#ad:not([hidden])")
    assert HOSTILE in page.locator("#pick option").nth(1).text_content()
    assert messages(served[1], "match-log")[-1]["job_id"] == "picked-1"
    page.click("#edit")
    assert page.locator("#found li").count() == 0


def test_what_the_stream_wrote_is_judged_blind(page, served):
    page.fill("#who", "eve")
    page.click("#next")
    page.wait_for_selector("#ad:not([hidden])")
    rows = page.locator("#found li")
    assert rows.count() == 3 and page.locator("#ad").text_content() == PICKED  # both models' matches
    assert page.locator("mark").count() == 2
    assert all(not row.locator(".name span").nth(1).text_content() for row in rows.all())  # nor how sure they were
    rows.nth(0).get_by_text("Reject").click()
    page.wait_for_selector("#found li:nth-child(1) button[aria-pressed=true]")
    given = messages(served[1], "match-feedback")[-1]
    assert (given["job_id"], given["who"], given["content_hash"], given["share"]) == ("picked-1", "eve", content_hash(PICKED), 1.0)
    page.click("#next")
    page.wait_for_selector("#said.wrong")  # one ad, and she has judged it
    page.wrong.clear()


def test_a_refusal_is_shown(page):
    page.fill("#text", "word " * 25_000)  # over the longest ad
    page.click("#match")
    page.wait_for_selector("#said.wrong")
    assert page.locator("#said").text_content().startswith("Not matched: ")
    assert page.locator("#match").is_enabled()
    page.wrong.clear()  # the browser notes the 422 as an error, as it should


def test_no_text_of_an_ad_is_logged(served):
    said = served[2].read_text()
    assert '"route": "/match"' in said
    assert not any(words in said for words in ("bicycles", "pwned", "visitors", "Clerk"))
    assert "bicycles" not in (served[1] / "match-log.jsonl").read_text()
