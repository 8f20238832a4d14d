"""The same tables in hypertower, torch and FBGEMM: `look_up` answers the next batch by table,
`step` trains on it and answers the rows of every table, `backward` returns the part of a step that
follows the lookup."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch

from hypertower import _core, ops

from .workload import Workload

warnings.filterwarnings("ignore", "Sparse invariant checks")  # of torch's own optimizer
Vectors = dict[str, torch.Tensor]
LR, EPS = 0.01, 1e-10


def pages(tensor: torch.Tensor, huge: bool) -> torch.Tensor:
    """A copy in memory of its own, on huge pages where the machine has some to give."""
    copy = torch.empty_like(tensor)
    if huge and copy.is_cpu:
        _core.advise_huge_pages(copy.data_ptr(), copy.nbytes)
    return copy.copy_(tensor)


class Hypertower:
    def __init__(self, w: Workload, optimizer: str = "rowwise_adagrad", *,
                 dynamic: bool = False) -> None:
        self._w = w
        self._batch = itertools.cycle(w.batches)
        self.tables = ops.EmbeddingTables(
            {n: (w.shape.rows, w.shape.dim) for n in w.names}, lr=LR, eps=EPS,
            optimizer=optimizer, device=w.device,
            dynamic={n: {} for n in w.names} if dynamic else None)

    def _forward(self) -> Vectors:
        return self.tables({n: (ids, self._w.offsets) for n, ids in next(self._batch).items()})

    def look_up(self) -> Vectors:
        with torch.no_grad():
            return self._forward()

    def step(self) -> Vectors:
        self.backward()()
        return self.rows()

    def backward(self) -> Callable[[], None]:
        vectors = list(self._forward().values())
        return lambda: torch.autograd.backward(vectors, [self._w.gradient] * len(vectors))

    def rows(self) -> Vectors:
        return {n: self.tables.weight(n) for n in self._w.names}


class Torch:
    """nn.EmbeddingBag with sparse gradients and optim.Adagrad, one table after the other."""

    def __init__(self, w: Workload, rows: Vectors, huge: bool) -> None:
        self._w = w
        self._batch = itertools.cycle(w.batches)
        self._bags = torch.nn.ModuleDict({
            n: torch.nn.EmbeddingBag.from_pretrained(pages(r, huge), freeze=False, mode="sum",
                                                     sparse=True, include_last_offset=True)
            for n, r in rows.items()})
        self._rule = torch.optim.Adagrad(self._bags.parameters(), lr=LR, eps=EPS)

    def _forward(self) -> Vectors:
        return {n: self._bags[n](ids, self._w.offsets) for n, ids in next(self._batch).items()}

    def look_up(self) -> Vectors:
        with torch.no_grad():
            return self._forward()

    def step(self) -> Vectors:
        self.backward()()
        return {n: self._bags[n].weight.detach() for n in self._w.names}

    def backward(self) -> Callable[[], None]:
        vectors = list(self._forward().values())

        def run() -> None:
            torch.autograd.backward(vectors, [self._w.gradient] * len(vectors))
            self._rule.step()
            self._rule.zero_grad()

        return run


class Fbgemm:
    """FBGEMM's tables with fused row-wise Adagrad, all in one call."""

    def __init__(self, w: Workload, rows: Vectors, huge: bool) -> None:
        logging.disable(logging.WARNING)  # of a table of versions that ends before this torch
        try:
            from fbgemm_gpu.split_embedding_configs import EmbOptimType
            from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
            from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
                ComputeDevice,
                SplitTableBatchedEmbeddingBagsCodegen,
            )
        finally:
            logging.disable(logging.NOTSET)
        self._w = w
        n = w.shape.bags * w.shape.length
        ends = torch.cat([w.offsets[1:] + t * n for t in range(w.shape.tables)])
        self._offsets = torch.cat([w.offsets[:1], ends])
        self._batch = itertools.cycle([torch.cat(list(b.values())) for b in w.batches])
        spec = (w.shape.rows, w.shape.dim, EmbeddingLocation.HOST, ComputeDevice.CPU)
        self._tables: Any = SplitTableBatchedEmbeddingBagsCodegen(
            [spec] * w.shape.tables, optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
            learning_rate=LR, eps=EPS)
        if huge:
            self._tables.weights_host.data = pages(self._tables.weights_host.data, True)
        for mine, theirs in zip(self._tables.split_embedding_weights(), rows.values(),
                                strict=True):
            mine.copy_(theirs)

    def _forward(self) -> torch.Tensor:
        return self._tables(next(self._batch), self._offsets)

    def look_up(self) -> Vectors:
        with torch.no_grad():
            out = self._forward()
        return dict(zip(self._w.names, out.split(self._w.shape.dim, 1), strict=True))

    def step(self) -> Vectors:
        self.backward()()
        return dict(zip(self._w.names, self._tables.split_embedding_weights(), strict=True))

    def backward(self) -> Callable[[], None]:
        out = self._forward()
        gradient = self._w.gradient.repeat(1, self._w.shape.tables)
        return lambda: out.backward(gradient)


def close(ours: Vectors, peer: Vectors) -> None:
    for name, vectors in ours.items():
        torch.testing.assert_close(vectors, peer[name], rtol=1e-4, atol=1e-4)


def stepped_alike(ours: Vectors, peer: Vectors) -> None:
    """Rows after a first step. Adagrad's first step is lr times the sign of the gradient, and where
    that is nearly zero two orders of a sum may disagree on it: one number in 100,000 may."""
    for name, rows in ours.items():
        off = (rows - peer[name]).abs()
        assert off.max() <= 2.1 * LR and (off > 1e-4).double().mean() <= 1e-5, name
