"""How time grows, what each step of the cascade saves and costs, and how much a matcher remembers: python benchmarks/growth.py [--run outputs/esco] [--ads FILE …] [--only PART …]

Seconds are those of the processor, of all threads together, so that other work on the machine does not count; on idle cores less time passes. `benchmarks/speed.py` has ads a second by the clock.
The parts, measured on the run's golden ads; whole: with the cross-encoder, retrieval: without it:

- ads: seconds for so many ads in one call;
- length: seconds for one ad of so many characters, made of lines of golden ads;
- attributes: seconds an ad with so many attributes: a draw of the taxonomy, and beyond it aliases as attributes of their own;
- candidates: seconds an ad with so many names nearest to a sentence (`top_k`);
- cascade: for an ad, lines that candidates are looked for, pairs read and seconds, and F1 of golden ads, where the gate and the prior let all through, where only the prior does, as in use,
  and where nothing is read; F1 is at the threshold that is best on dev;
- memory: the ads of --ads (CSV, JSONL, Parquet), in windows as a stream has them: the share of lines, pairs and ads that were known when they were asked for.

Settings take turns, as a machine's speed changes, and of the rounds the cheapest counts. The figures go to benchmarks/growth.json, beside those of parts that are not measured this time.
`nbs/guides/many_ads.ipynb` shows them.
"""

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from speed import gold_of, quality

from jobmatch.core.bulk import input_files
from jobmatch.core.matcher import WINDOW, Matcher, Memory
from jobmatch.core.runs import device_name, read_json, write_json
from jobmatch.core.schema import iter_jobs

FILE = Path(__file__).with_suffix(".json")
Case = tuple[Matcher, list[str]]


def seconds(matcher: Matcher, texts: list[str]) -> float:
    "What one call takes that remembers nothing."
    matcher.memory, begin = Memory(), time.process_time()
    matcher.match(texts)
    return time.process_time() - begin


def in_turns(cases: dict[int, Case], rounds: int, each: bool = True) -> list[dict]:  # x, retrieval, whole; seconds, for each ad or for all of them
    "Time cases by turns, each with and without reading."
    systems = {(x, name): (replace(matcher, cross=cross), texts) for x, (matcher, texts) in cases.items() for name, cross in (("retrieval", None), ("whole", matcher.cross))}
    best = dict.fromkeys(systems, float("inf"))
    for matcher, texts in systems.values():
        seconds(matcher, texts[:1])  # what is slow the first time
    for _ in range(rounds):
        for key, (matcher, texts) in systems.items():
            best[key] = min(best[key], seconds(matcher, texts))
    n = {x: len(texts) if each else 1 for x, (_, texts) in cases.items()}
    return [dict(x=x, retrieval=round(best[x, "retrieval"] / n[x], 4), whole=round(best[x, "whole"] / n[x], 4)) for x in cases]


def of_length(texts: list[str], characters: int, rng: random.Random) -> str:
    "An ad of lines of others."
    lines = rng.sample([line for t in texts for line in t.split("\n")], 400)
    size, taken = 0, []
    while size < characters:
        taken.append(lines.pop())
        size += len(taken[-1]) + 1
    return "\n".join(taken)[:characters]


def grown(attributes: pd.DataFrame, n: int) -> pd.DataFrame:
    "n attributes: some of these, or these and their aliases."
    if n <= len(attributes):
        return attributes.sample(n, random_state=0)
    aliases = attributes[["attribute_id", "aliases"]].explode("aliases").dropna().drop_duplicates("aliases").head(n - len(attributes))
    more = pd.DataFrame(dict(attribute_id=[f"{a}#{i}" for i, a in enumerate(aliases.attribute_id)], name=aliases.aliases.tolist(), definition=""))
    return pd.concat([attributes, more.assign(aliases=[[] for _ in range(len(more))], frequency=0.0, taxonomy="", taxonomy_version="")], ignore_index=True)


def ads_part(matcher: Matcher, texts: list[str], rounds: int) -> list[dict]:
    return in_turns({n: (matcher, texts[:n]) for n in (1, 2, 4, 8, 16, 32, 64)}, rounds, each=False)


def length_part(matcher: Matcher, texts: list[str], rounds: int) -> list[dict]:
    rng = random.Random(0)
    return in_turns({n: (matcher, [of_length(texts, n, rng) for _ in range(4)]) for n in (500, 1000, 2000, 4000, 8000)}, rounds)


def attributes_part(matcher: Matcher, texts: list[str], rounds: int) -> list[dict]:
    sizes = (1000, 3500, len(matcher.attributes), 28_000, 56_000)
    return in_turns({n: (matcher.with_attributes(grown(matcher.attributes, n), progress=True), texts[:8]) for n in sizes}, rounds)


def candidates_part(matcher: Matcher, texts: list[str], rounds: int) -> list[dict]:
    return in_turns({k: (replace(matcher, config=matcher.config | dict(top_k=k)), texts[:8]) for k in (10, 30, 60, 120, 240, 480)}, rounds)


def steps(matcher: Matcher) -> dict[str, Matcher]:
    "The cascade, step by step."
    as_if = lambda **config: replace(matcher, config=matcher.config | config)
    all_read = as_if(gate_from=-1e9, gate_from_few=-1e9, read_from=0.0)
    return {"all lines, all that leads is read": all_read, "with the gate": as_if(read_from=0.0), "with gate and prior, as in use": matcher, "nothing is read": replace(matcher, cross=None)}


def cascade_part(matcher: Matcher, texts: list[str], rounds: int, run: str) -> list[dict]:
    systems, rows = steps(matcher), []
    best = dict.fromkeys(systems, float("inf"))
    for _ in range(rounds):
        for name, one in systems.items():
            best[name] = min(best[name], seconds(one, texts[:WINDOW]) / WINDOW)
    for name, one in systems.items():
        seconds(one, texts)
        asked = one.memory.asked
        found = lambda some, one=one: [{m.attribute_id: m.score for m in ad} for ad in one.match(some, threshold=0.01)]
        rows.append(dict(step=name, lines=round(asked["candidates"] / len(texts), 1), pairs=round(asked.get("logits", 0) / len(texts), 1), seconds=round(best[name], 4),
                         f1=round(quality("pipeline", found, run, "")["f1_golden"], 3)))
    return rows


def memory_part(matcher: Matcher, files: list[str]) -> dict:
    texts = [t for path in input_files(files) for piece in iter_jobs(path) for t in piece.jobs.text]
    matcher.memory = Memory()
    for i in range(0, len(texts), WINDOW):
        matcher.match(texts[i : i + WINDOW])
    return dict(ads=len(texts), distinct=len(set(texts)), characters=round(sum(map(len, texts)) / len(texts)), known={part: round(share, 4) for part, share in matcher.memory.hit_rates().items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="outputs/esco")
    parser.add_argument("--ads", nargs="+", help="files or folders of real ads, for the part memory; without them it is left out")
    parser.add_argument("--only", nargs="+", choices=("ads", "length", "attributes", "candidates", "cascade", "memory"), metavar="PART", help="(default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    matcher, (texts, _) = Matcher.load(args.run), gold_of(args.run, "golden")
    parts: dict[str, Callable[[], object]] = {
        "ads": lambda: ads_part(matcher, texts, args.rounds), "length": lambda: length_part(matcher, texts, args.rounds),
        "attributes": lambda: attributes_part(matcher, texts, args.rounds), "candidates": lambda: candidates_part(matcher, texts, args.rounds),
        "cascade": lambda: cascade_part(matcher, texts, args.rounds, args.run)} | ({"memory": lambda: memory_part(matcher, args.ads)} if args.ads else {})
    for name in args.only or parts:
        if name not in parts:
            parser.error("the part memory needs --ads")
        figures = parts[name]()
        print(f"{name}\n{pd.DataFrame(figures if isinstance(figures, list) else [figures]).to_string(index=False)}", flush=True)
        kept = read_json(FILE) if FILE.is_file() else {}
        write_json(FILE, kept | {"device": device_name(), "model_version": matcher.model_version, "characters": round(sum(map(len, texts)) / len(texts)), name: figures})


if __name__ == "__main__":
    main()
