"""What is looked up: shapes, and ids as skewed as those of click logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

BATCHES = 4  # in turns, so that no cache holds the rows of the next one


def skewed_ids(n: int, rows: int, alpha: float, device: str) -> torch.Tensor:
    """Ids whose frequency falls with this power of their rank; 0: uniform, infinity: one row."""
    if alpha == 0:
        return torch.randint(rows, (n,), device=device)
    if alpha == float("inf"):
        return torch.full((n,), rows // 2, device=device)
    u = torch.rand(n, device=device, dtype=torch.float64)
    exponent = 1 - alpha
    rank = ((u * (rows**exponent - 1) + 1) ** (1 / exponent)).long().clamp_(1, rows) - 1
    return torch.randperm(rows, device=device)[rank]  # popular ids lie anywhere in a table


@dataclass(frozen=True)
class Shape:
    """`tables` of rows x dim; in each `bags` of `length` ids."""

    name: str
    tables: int
    rows: int
    dim: int
    bags: int
    length: int


class Workload:
    """Batches of ids for every table, and a gradient."""

    def __init__(self, shape: Shape, alpha: float, device: str) -> None:
        self.shape, self.device = shape, device
        self.names = [f"table{t}" for t in range(shape.tables)]
        self.offsets = torch.arange(shape.bags + 1, device=device) * shape.length
        self.batches = [
            {name: skewed_ids(shape.bags * shape.length, shape.rows, alpha, device)
             for name in self.names} for _ in range(BATCHES)]
        self.gradient = torch.randn(shape.bags, shape.dim, device=device)
        data = {0: "uniform", float("inf"): "one row"}.get(alpha, f"zipf{alpha:g}")
        self.case: dict[str, Any] = {
            "workload": shape.name, "T": shape.tables, "rows": shape.rows, "D": shape.dim,
            "bags": shape.bags, "length": shape.length, "data": data}

    def step_bytes(self) -> float:
        """Bytes that the backward pass of a batch with row-wise Adagrad must move: the gradient
        once, each touched row and the cache line of its state there and back, and what a radix sort
        of 32-bit keys and 32-bit values moves (two passes a byte of key, then the runs)."""
        s = self.shape
        n = s.bags * s.length
        touched = sum(ids.unique().numel() for batch in self.batches for ids in batch.values())
        passes = -(-max(1, (s.rows - 1).bit_length()) // 8)
        plan = s.tables * n * (2 * passes * 8 + 4 + 8)
        return s.tables * s.bags * s.dim * 4 + touched / BATCHES * (s.dim * 8 + 128) + plan
