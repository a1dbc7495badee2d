"`jobmatch match` on whatever users feed it: good, broken, empty, wrongly encoded, piped."

import csv
import functools
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobmatch.cli import main, read_ads
from jobmatch.core.matcher import Matcher
from jobmatch.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).parent / "jobmatch"
ADS = sorted(map(str, (ROOT / "examples" / "ads").iterdir()))
TEXT = "Wir suchen Köche.\nYou weld pipes • and test “valves” for leaks."


@pytest.fixture(scope="module")
def model():
    "A small model folder, which the calls of this process load only once."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Matcher, "load", functools.cache(Matcher.load))
        yield str(tiny_run() / "model")


def matches(capsys, *words: str) -> list[dict]:
    "What a call to `jobmatch match` prints as JSON lines."
    capsys.readouterr()
    assert main(["match", *words, "--threshold", "0", "--top-n", "3", "--format", "jsonl"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def complaint(capsys, *words: str) -> str:
    "What a call says that has to fail, which is not a traceback."
    capsys.readouterr()
    assert main(["match", *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("jobmatch: ") and "Traceback" not in said.err
    return said.err


def test_help_answers_at_once():
    begin = time.monotonic()
    said = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert time.monotonic() - begin < 1 and all(name in said for name in ("fetch", "run", "match"))
    heavy = "import sys, jobmatch.cli; print([m for m in ('torch', 'pandas', 'spacy', 'papermill', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_example_ads_in_every_format(capsys, model):
    found = matches(capsys, *ADS, "--model", model)
    assert [f["job_id"] for f in found] == ADS
    for ad in found:
        text = dict(read_ads(ad["job_id"]))[ad["job_id"]]
        assert len(ad["matches"]) == 3
        for m in ad["matches"]:
            assert 0 <= m["score"] <= 1 and m["evidence"] and all(text[e["start"] : e["end"]] == e["text"] for e in m["evidence"])


@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_other_formats_say_the_same(capsys, model, tmp_path, form):
    expected = matches(capsys, ADS[0], "--model", model)[0]["matches"]
    out = tmp_path / "out"
    assert main(["match", ADS[0], "--model", model, "--threshold", "0", "--top-n", "3", "--format", form, "--output", str(out)]) == 0
    said = out.read_text(encoding="utf-8")
    if form == "json":
        assert json.loads(said)[0]["matches"] == expected
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(said, newline="")))
        assert [(r["attribute_id"], int(r["start"]), r["evidence"]) for r in rows] == [
            (m["attribute_id"], e["start"], e["text"]) for m in expected for e in m["evidence"]]
    else:
        assert all(m["name"][:30] in said and f"{m['score']:.2f}" in said for m in expected)
        assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_the_encodings_people_have(capsys, tmp_path, codec):
    (tmp_path / "ad.txt").write_bytes(TEXT.encode(codec))
    (_, text), = read_ads(str(tmp_path / "ad.txt"))
    assert text == TEXT
    assert "Windows-1252" in capsys.readouterr().err if codec == "cp1252" else True


ODD = {
    "one character": "x",
    "only bullets": "•\n•\n- \n* *",
    "bullets": "• weld pipes\n• test valves\n• read drawings",
    "other scripts": "Мы ищем сварщика. Он варит трубы.\n配管を溶接し、弁を検査します。\nنبحث عن لحام.",
    "emoji": "🔥🔥 Weld pipes 🔧! 👩‍🏭 Test valves for leaks 💧.",
    "HTML": "<p>Weld&nbsp;pipes &amp; test <b>valves</b>.</p><script>var weld = 1;</script>",
    "one long line": "weld pipes and " * 500,
    "control characters": "Weld pipes.\x00\x1b[31m Test valves.\x07",
}


def test_odd_ads_are_matched_with_true_offsets(capsys, model, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps(dict(job_id=k, text=v)) + "\n" for k, v in ODD.items()), encoding="utf-8")
    found = {f["job_id"]: f["matches"] for f in matches(capsys, str(path), "--model", model)}
    assert list(found) == list(ODD)
    for job_id, ad in found.items():
        assert all(ODD[job_id][e["start"] : e["end"]] == e["text"] for m in ad for e in m["evidence"]), job_id
    assert found["bullets"] and found["HTML"] and not found["only bullets"]
    assert main(["match", str(path), "--model", model, "--threshold", "0", "--top-n", "1"]) == 0
    assert "\x1b" not in capsys.readouterr().out  # nothing in an ad reaches the terminal as a command


BROKEN = {
    "empty.txt": (b"", "is empty"),
    "blank.txt": (b" \n\t\n", "is empty"),
    "book.csv": (b"PK\x03\x04 a spreadsheet", "binary"),
    "empty.csv": (b"", "is empty"),
    "columns.csv": (b"id;body\n1;weld\n", "column"),
    "repeated.csv": (b"job_id,text\n1,weld\n1,test\n", "row 3"),
    "torn.csv": (b'job_id,text\n1,weld\n2,"never closed\n3,test\n', "row 3"),
    "lines.jsonl": (b'{"job_id": "a", "text": "weld"}\nnot JSON\n', "row 2"),
    "blank.jsonl": (b'{"job_id": "a", "text": "  "}\n', "row 1"),
    "list.jsonl": (b'[{"job_id": "a", "text": "weld"}]\n', "column"),
    "ads.parquet": (b"PAR1 and no more", "ads.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_place_and_remedy(capsys, tmp_path, name):
    content, expected = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    said = complaint(capsys, str(tmp_path / name), "--model", str(tmp_path))
    assert name in said and expected in said


def test_mistakes_in_the_call(capsys, tmp_path):
    (tmp_path / "ad.txt").write_text("Weld pipes.")
    assert "make run" in complaint(capsys, str(tmp_path / "ad.txt"), "--model", str(tmp_path / "none"))
    assert "no such file" in complaint(capsys, str(tmp_path / "none.txt"), "--model", str(tmp_path))
    assert "is a folder" in complaint(capsys, str(tmp_path), "--model", str(tmp_path))
    assert "between 0 and 1" in complaint(capsys, str(tmp_path / "ad.txt"), "--threshold", "90")
    assert "at least 1" in complaint(capsys, str(tmp_path / "ad.txt"), "--top-n", "0")


def test_a_folder_that_is_no_model(capsys, tmp_path):
    (tmp_path / "ad.txt").write_text("Weld pipes.")
    assert str(tmp_path) in complaint(capsys, str(tmp_path / "ad.txt"), "--model", str(tmp_path))


def test_standard_input_and_a_reader_that_leaves(model):
    words = [COMMAND, "match", "-", "--model", model, "--threshold", "0", "--top-n", "1", "--input", "jsonl"]
    rows = "".join(json.dumps(dict(job_id=str(i), text="Weld pipes.")) + "\n" for i in range(3))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        process.stdin.write(rows)
        process.stdin.close()
        said = process.stderr.read()
        assert process.wait(120) == 0 and "Traceback" not in said and "Broken" not in said
