"""Plain attention beside PyTorch's fused one on a CPU, forward and backward, by the length of the texts:

    python benchmarks/attention.py

`core.training` chooses by it. Less than a minute.
"""

import time

import torch
from torch.nn.functional import scaled_dot_product_attention, softmax

TOKENS = 6000  # of a batch
HEADS, DIM = 12, 32  # of MiniLM
ROUNDS = 5


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    "As transformers computes it for `eager`."
    weights = softmax(q @ k.transpose(2, 3) * DIM**-0.5 + mask, dim=-1, dtype=torch.float32)
    return weights.to(q.dtype) @ v


def milliseconds(attention, n: int, length: int) -> float:
    "The best of some rounds."
    q, k, v = (torch.randn(n, HEADS, length, DIM, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    mask, took = torch.zeros(n, 1, 1, length, dtype=torch.bfloat16), []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        attention(q, k, v, mask).sum().backward()
        took.append(time.perf_counter() - begin)
    return 1000 * min(took)


print(f"{'tokens':>6} {'plain':>7} {'fused':>7}  (ms)")
for length in (24, 48, 96, 150, 192, 384, 512):
    n = TOKENS // length
    print(f"{length:6} {milliseconds(plain, n, length):7.0f} {milliseconds(lambda q, k, v, m: scaled_dot_product_attention(q, k, v, attn_mask=m), n, length):7.0f}")
