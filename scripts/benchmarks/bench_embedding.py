"""Embedding tables of hypertower against torch's: lookup, and a whole step of training.

The peer of a step is torch's sparse way: nn.EmbeddingBag(sparse=True) with optim.Adagrad, for
several tables one after the other. Ours is timed with the same optimizer and with row-wise Adagrad,
which torch has not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import Suite

from hypertower import ops

Vectors = dict[str, torch.Tensor]


def skewed_ids(n: int, rows: int, alpha: float, device: str) -> torch.Tensor:
    """Ids whose frequency falls with this power of their rank, as in click logs; 0: uniform."""
    if alpha == 0:
        return torch.randint(rows, (n,), device=device)
    u = torch.rand(n, device=device, dtype=torch.float64)
    exponent = 1 - alpha
    rank = ((u * (rows**exponent - 1) + 1) ** (1 / exponent)).long().clamp_(1, rows) - 1
    # Popular ids lie anywhere in a table.
    return torch.randperm(rows, device=device)[rank]


class Workload:
    """Tables of equal shape, one lookup in each, and the same in torch."""

    def __init__(self, suite: Suite, tables: int, rows: int, dim: int, bags: int, length: int,
                 alpha: float) -> None:
        device = suite.device
        self.names = [f"table{t}" for t in range(tables)]
        self.rows, self.dim = rows, dim
        self.offsets = torch.arange(bags + 1, device=device) * length
        self.ids = {name: skewed_ids(bags * length, rows, alpha, device) for name in self.names}
        self.gradient = torch.randn(bags, dim, device=device)
        self.device = device
        self.case = {"T": tables, "rows": rows, "D": dim, "bags": bags, "length": length,
                     "data": f"zipf{alpha:g}" if alpha else "uniform", "peer": "torch"}

    def ours(self, optimizer: str) -> ops.EmbeddingTables:
        return ops.EmbeddingTables({n: (self.rows, self.dim) for n in self.names}, lr=0.01,
                                   eps=1e-10, optimizer=optimizer, device=self.device)

    def torchs(self, like: ops.EmbeddingTables) -> torch.nn.ModuleDict:
        """With the same rows."""
        return torch.nn.ModuleDict({
            n: torch.nn.EmbeddingBag.from_pretrained(like.weight(n).clone(), freeze=False,
                                                     mode="sum", sparse=True,
                                                     include_last_offset=True)
            for n in self.names})

    def look_up(self, tables: ops.EmbeddingTables) -> Vectors:
        return tables({n: (self.ids[n], self.offsets) for n in self.names})

    def look_up_in_torch(self, tables: torch.nn.ModuleDict) -> Vectors:
        return {n: tables[n](self.ids[n], self.offsets) for n in self.names}

    def back(self, vectors: Vectors) -> None:
        torch.autograd.backward(list(vectors.values()), [self.gradient] * len(vectors))


def close(ours: Vectors, peer: Vectors) -> None:
    for name, vectors in ours.items():
        torch.testing.assert_close(vectors, peer[name], rtol=1e-4, atol=1e-4)


def measure(suite: Suite, w: Workload) -> None:
    mine = w.ours("adagrad")
    theirs = w.torchs(mine)

    def without_gradient(look_up: Callable[[], Vectors]) -> Vectors:
        with torch.no_grad():
            return look_up()

    suite.speed_up("E3", {**w.case, "op": "forward"},
                   lambda: without_gradient(lambda: w.look_up(mine)),
                   lambda: without_gradient(lambda: w.look_up_in_torch(theirs)), close)
    rule = torch.optim.Adagrad(theirs.parameters(), lr=0.01)

    def step_of_torch() -> Vectors:
        vectors = w.look_up_in_torch(theirs)
        w.back(vectors)
        rule.step()
        rule.zero_grad()
        return {n: theirs[n].weight for n in w.names}

    def step(tables: ops.EmbeddingTables) -> Vectors:
        w.back(w.look_up(tables))
        return {n: tables.weight(n) for n in w.names}

    case = {**w.case, "op": "forward, backward, optimizer"}
    suite.speed_up("E4", {**case, "optimizer": "adagrad"}, lambda: step(mine), step_of_torch, close)
    mine = w.ours("rowwise_adagrad")
    check_rowwise(w, mine, step)
    # Another rule, so the two answers differ: ours was compared just now.
    suite.speed_up("E4", {**case, "optimizer": "rowwise_adagrad against adagrad"},
                   lambda: step(mine), step_of_torch, lambda *_: None)


def check_rowwise(w: Workload, mine: ops.EmbeddingTables,
                  step: Callable[[ops.EmbeddingTables], Vectors]) -> None:
    """A first step: the state of a row is its mean squared gradient."""
    name = w.names[0]
    before = mine.weight(name).clone()
    after = step(mine)[name]
    gradient = torch.zeros_like(before).index_add_(
        0, w.ids[name], w.gradient.repeat_interleave(w.offsets.diff(), 0))
    rate = 0.01 / (gradient.square().mean(1, keepdim=True).sqrt() + 1e-10)
    torch.testing.assert_close(after, before - rate * gradient, rtol=1e-4, atol=1e-5)


def main() -> None:
    suite = Suite(__doc__ or "")
    torch.manual_seed(1)
    shapes = ([(1, 100_000, 64, 2048, 20), (26, 5_000, 32, 256, 10)] if suite.quick else
              [(1, 1_000_000, 128, 8192, 20), (26, 100_000, 64, 2048, 10)])
    if suite.device == "cuda" and not suite.quick:
        shapes.append((1, 10_000_000, 128, 65_536, 20))
    for shape in shapes:
        for alpha in (0, 1.05, 1.15):
            measure(suite, Workload(suite, *shape, alpha))


if __name__ == "__main__":
    main()
