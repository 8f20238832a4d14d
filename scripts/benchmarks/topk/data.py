"""Items, queries and masks as .npy files in a folder, so that every worker reads the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .cases import ADVERSARIAL, Case

MOST_QUERIES = 1024
EXCLUDED = 1000  # ids that a query with a mask of its own leaves out
_BLOCK = 1 << 18  # rows made at a time, which bounds the memory of the maker


def _seed(*words: object) -> np.random.Generator:
    """The same words, the same numbers; blocks of one matrix have seeds of their own."""
    return np.random.default_rng(list("/".join(map(str, words)).encode()))


def _norms(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Lengths as towers give them to items by popularity: many short, few long."""
    return (0.5 + rng.pareto(3.0, (rows, 1)).clip(max=8)).astype(np.float32)


def _generated(name: str, rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Rows of one of the kinds of generated data."""
    if name == "gaussian":
        return rng.standard_normal((rows, dim), dtype=np.float32)
    if name == "heavy-tailed":
        return rng.standard_t(4, (rows, dim)).astype(np.float32)
    rank = 16
    basis = _seed("basis", dim).standard_normal((rank, dim), dtype=np.float32)
    inside = rng.standard_normal((rows, rank), dtype=np.float32) @ basis / np.float32(rank**0.5)
    return inside + 0.1 * rng.standard_normal((rows, dim), dtype=np.float32)


def _adversarial(name: str, rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Rows on which bounds, ties and cut-offs are hardest to get right."""
    x = rng.standard_normal((rows, dim), dtype=np.float32)
    if name == "ties":  # every row many times
        return x[rng.integers(0, 50, rows)]
    if name == "constant":  # the smallest ids must win
        return np.broadcast_to(x[:1], x.shape).copy()
    if name == "zero":
        x[rng.random(rows) < 0.9] = 0.0
    elif name == "one-hot":  # one outlier decides the scale of a row
        x *= 1e-3
        x[np.arange(rows), rng.integers(0, dim, rows)] = 1.0
    elif name == "huge-and-tiny":
        x *= np.float32(10.0) ** rng.integers(-12, 12, (rows, 1)).astype(np.float32)
    elif name == "nearly-equal":  # differences far below what eight bits resolve
        x = x[:1] + np.float32(1e-6) * x
    elif name == "sorted":  # worst order for any cut-off that rises as the scan goes on
        x = x[np.argsort(x[:, 0])]
        x[:, 0] *= 100
    return x


class Dataset:
    """The items of one size and kind, 1,024 queries for them, and masks as cases ask for them."""

    def __init__(self, folder: Path, name: str, rows: int, dim: int) -> None:
        self.name, self.rows, self.dim = name, rows, dim
        self.folder = folder / f"{name}-{rows}-{dim}"
        self.folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def of(folder: Path, case: Case) -> Dataset:
        return Dataset(folder, case.data, case.rows, case.dim)

    @property
    def bytes(self) -> int:
        return 4 * self.rows * self.dim

    def _blocks(self, what: str, rows: int) -> Iterator[tuple[slice, np.random.Generator]]:
        for start in range(0, rows, _BLOCK):
            yield (slice(start, min(rows, start + _BLOCK)),
                   _seed(what, self.name, self.rows, self.dim, start))

    def _write(self, what: str, rows: int) -> Path:
        path = self.folder / f"{what}.npy"
        if path.exists():
            return path
        out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, self.dim))
        for part, rng in self._blocks(what, rows):
            count = part.stop - part.start
            if self.name not in ADVERSARIAL:
                out[part] = _generated(self.name, rng, count, self.dim)
                if what == "items" and self.name == "low-rank":
                    out[part] *= _norms(rng, count)
            elif what == "items":
                out[part] = _adversarial(self.name, rng, count, self.dim)
            else:
                out[part] = rng.standard_normal((count, self.dim), dtype=np.float32)
        return path

    def items(self) -> Path:
        return self._write("items", self.rows)

    def queries(self) -> Path:
        return self._write("queries", MOST_QUERIES)

    def mask(self, case: Case) -> Path | None:
        """True = allowed; [N], or [B, N] where each query has its own."""
        if not case.filter:
            return None
        shape = (case.batch, case.rows) if case.mask == "own" else (case.rows,)
        path = self.folder / f"{case.mask}-{case.filter}-{'x'.join(map(str, shape))}.npy"
        if not path.exists() and case.mask == "range":
            np.save(path, np.arange(case.rows) >= case.filter * case.rows)
        elif not path.exists():
            out = np.lib.format.open_memmap(path, "w+", bool, shape)
            base = _seed(path.name, self.name).random(case.rows, np.float32) >= case.filter
            for b, row in enumerate(np.atleast_2d(out)):
                row[:] = np.roll(base, 7919 * b)
        return path

    def exclude(self, case: Case) -> Path | None:
        """Ids that each query leaves out, int64 [B, 1000]."""
        if case.mask != "own":
            return None
        path = self.folder / f"exclude-{case.batch}.npy"
        if not path.exists():
            rng = _seed(path.name, self.name)
            np.save(path, rng.integers(0, case.rows, (case.batch, EXCLUDED)))
        return path


def adopt(folder: Path, name: str, items: np.ndarray, queries: np.ndarray) -> Dataset:
    """A data set of vectors that exist already, such as those of a trained model."""
    dataset = Dataset(folder, name, *items.shape)
    repeats = -(-MOST_QUERIES // len(queries))
    np.save(dataset.folder / "items.npy", items.astype(np.float32))
    np.save(dataset.folder / "queries.npy",
            np.tile(queries.astype(np.float32), (repeats, 1))[:MOST_QUERIES])
    return dataset
