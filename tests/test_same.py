"The same ad, the same answer: in whatever order, alone or in company, by one thread or two."

import numpy as np
import pytest
import torch

from jobmatch.core.encoders import load_bi, load_cross
from jobmatch.core.matcher import Matcher, Memory
from jobmatch.core.runs import read_frame, root
from jobmatch.tiny import tiny_run

WITHIN = {"bfloat16": 0.0, "float32": 0.001}  # in float32 a batch of one pair goes through another kernel, and its logit differs by some millionths


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def answers(matcher: Matcher, ads: list[str]) -> list[dict[str, float]]:
    "Each ad's scores by attribute, from a matcher that remembers nothing."
    matcher.memory = Memory()
    return [{m.attribute_id: m.score for m in found} for found in matcher.match(ads, threshold=0.02)]


@pytest.mark.parametrize("dtype", WITHIN)
def test_order_company_and_threads_do_not_show(dtype, threads):
    run = tiny_run()
    matcher = Matcher.load(run, "cpu")
    matcher.bi, matcher.cross = (load(str(run / "model" / name), "cpu", dtype) for load, name in ((load_bi, "bi"), (load_cross, "cross")))
    ads = [p.read_text(encoding="utf-8") for p in sorted((root() / "examples" / "ads").iterdir())] + read_frame(run / "data" / "jobs.parquet").text.tolist()[:5]
    order = np.random.default_rng(0).permutation(len(ads))
    threads(1)
    expected = answers(matcher, ads)
    assert sum(map(len, expected)) > 50 and matcher.memory.asked["logits"] > 50
    alone = [found for ad in ads for found in answers(matcher, [ad])]
    shuffled = answers(matcher, [ads[i] for i in order])
    threads(2)
    by_two = answers(matcher, [ads[i] for i in order])
    back = np.argsort(order)
    for found in (alone, [shuffled[i] for i in back], [by_two[i] for i in back]):
        for a, b in zip(found, expected):
            both = {k: abs(a.get(k, 0.02) - b.get(k, 0.02)) for k in a.keys() | b.keys()}  # one that is missing has less than the threshold
            assert max(both.values(), default=0.0) <= WITHIN[dtype] + 1e-9 and (WITHIN[dtype] or a.keys() == b.keys())
