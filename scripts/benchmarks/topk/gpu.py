"""On a GPU: against its own limits, measured in the same process, and the same search in torch.

Times are those of a caller who waits for the answer: from the call in Python to the synchronised
end, medians. The limits are a copy within the device's memory (bytes read and written) and a large
int8 and bf16 product of torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from common import Suite

import hypertower as ht

Answer = tuple[torch.Tensor, torch.Tensor]


def seconds_of(call: Callable[[], Any], budget: float) -> list[float]:
    """Of each call, synchronised, in ascending order."""
    for _ in range(3):  # the second call of a search records its graph
        call()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 20 or time.perf_counter() < end:
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)


def compare(ours: Answer, peer: Answer) -> None:
    """The scores must agree place by place; ids may differ only where torch's rounding decided.
    Of a large batch, whose logits would not fit, the peer has the first rows."""
    ids, scores = (part[:len(peer[0])] for part in ours)
    torch.testing.assert_close(scores, peer[0], rtol=1e-4, atol=1e-3)
    same = (ids == peer[1]).float().mean().item()
    assert same > 0.99, f"only {same:.1%} of the ids agree with torch"


class Limits:
    """What this device reaches, in bytes and operations a second."""

    def __init__(self, suite: Suite) -> None:
        source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        self.bytes = 2 * source.numel() / median(seconds_of(lambda: target.copy_(source), 0.3))
        n = 8192
        a = torch.randint(-127, 127, (n, n), device="cuda", dtype=torch.int8)
        b = torch.randint(-127, 127, (n, n), device="cuda", dtype=torch.int8).t()
        self.int8 = 2 * n**3 / median(seconds_of(lambda: torch._int_mm(a, b), 0.3))
        c = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        self.bf16 = 2 * n**3 / median(seconds_of(lambda: c @ c, 0.3))
        for what, rate in (("copy, bytes", self.bytes), ("int8 product, operations", self.int8),
                           ("bf16 product, operations", self.bf16)):
            suite.add("rate", {"what": f"{what} per second", "device": "cuda"}, rate / 1e12, "T/s",
                      "higher", False)

    def floor(self, rows: int, dim: int, batch: int, rate: float) -> float:
        """Seconds: each int8 code read once, or the products."""
        return max(rows * dim / self.bytes, 2 * batch * rows * dim / rate)


def against_torch(suite: Suite) -> None:
    """S1 to S5, S7, S8 and S11."""
    torch.manual_seed(1)
    limits = Limits(suite)
    budget = suite.seconds / 2
    small, large = (100_000, 1_000_000) if suite.quick else (1_000_000, 10_000_000)
    dim = 128
    for rows in (small, large):
        items = torch.randn(rows, dim, device="cuda")
        index = ht.TopKIndex(items)
        for batch in (1, 8, 32, 256, 1024):
            queries = torch.randn(batch, dim, device="cuda")
            case = {"N": rows, "D": dim, "B": batch, "K": 100, "data": "gaussian",
                    "device": "cuda"}

            def ours(q: torch.Tensor = queries, i: ht.TopKIndex = index) -> Answer:
                return i.search(q, 100)

            def torch_search(q: torch.Tensor = queries, x: torch.Tensor = items) -> Answer:
                return torch.topk(q @ x.T, 100)

            answer = ours()
            compare(answer, torch_search(queries[:256]))
            if rows == small and batch <= 32:
                add_bits(suite, case, queries, items, answer)
            times = seconds_of(ours, budget)
            middle = median(times)
            if batch * rows <= 4_000_000_000:  # its logits must fit
                peer = median(seconds_of(torch_search, budget))
                suite.add("S4", {**case, "peer": "torch.mm + topk, float32"}, peer / middle, "x",
                          "higher", True, middle, peer)
            if batch == 1:
                suite.add("S11", case, times[int(len(times) * 0.99)] / middle, "p99/p50", "lower",
                          True, middle)
            if batch <= 32:
                floor = limits.floor(rows, dim, batch, limits.int8)
                suite.add("S3", case, floor / middle, "of the copy rate", "higher", True, middle,
                          floor_seconds=floor)
            else:
                for row_id, rate in (("S1", limits.bf16), ("S2", limits.int8)):
                    floor = limits.floor(rows, dim, batch, rate)
                    suite.add(row_id, case, middle / floor, "x floor", "lower", True, middle,
                              floor_seconds=floor)
        times_of_k = {k: time_of_k(index, items, queries[:256], k, budget) for k in (10, 1024)}
        suite.add("S7", {"N": rows, "D": dim, "B": 256, "K": "1024 over 10", "device": "cuda"},
                  times_of_k[1024] / times_of_k[10], "x", "lower", True, times_of_k[1024])
        if rows == small:
            filters(suite, index, items, queries[:256], budget)
        del items, index, answer


def time_of_k(index: ht.TopKIndex, items: torch.Tensor, queries: torch.Tensor, k: int,
              budget: float) -> float:
    compare(index.search(queries, k), torch.topk(queries @ items.T, k))
    return median(seconds_of(lambda: index.search(queries, k), budget))


def add_bits(suite: Suite, case: dict[str, Any], queries: torch.Tensor, items: torch.Tensor,
             answer: Answer) -> None:
    """The same bits as the CPU's."""
    on_cpu = ht.topk(queries.cpu(), items.cpu(), 100)
    wrong = sum(int((a.cpu() != b).sum()) for a, b in zip(answer, on_cpu, strict=True))
    suite.add("S8", {**case, "what": "ids and score bits other than the CPU's"}, wrong, "", "lower",
              True)


def filters(suite: Suite, index: ht.TopKIndex, items: torch.Tensor, queries: torch.Tensor,
            budget: float) -> None:
    """Masks prepared once, as a server has them."""
    rng = np.random.default_rng(1)
    batch, rows = queries.shape[0], len(index)
    plain = median(seconds_of(lambda: index.search(queries, 100), budget))
    for share in (0.9, 0.99, 0.9999):
        for whose, shape in (("one for all", (rows,)), ("each row's own", (batch, rows))):
            allowed = rng.random(shape, dtype=np.float32) >= share
            mask = ht.TopKMask(allowed)
            compare(index.search(queries, 100, mask=mask),
                    best_allowed(queries @ items.T, torch.from_numpy(allowed).cuda()))
            filtered = median(seconds_of(lambda m=mask: index.search(queries, 100, mask=m), budget))
            suite.add("S5", {"N": rows, "D": index.dim, "B": batch, "K": 100, "filtered": share,
                             "mask": whose, "device": "cuda"}, filtered / plain, "x", "lower", True,
                      filtered, plain)


def best_allowed(scores: torch.Tensor, allowed: torch.Tensor) -> Answer:
    """The 100 best, padded as the op pads where fewer are allowed."""
    best = torch.topk(scores.masked_fill_(~allowed, -torch.inf), 100)
    return best.values, torch.where(best.values == -torch.inf, -1, best.indices)
