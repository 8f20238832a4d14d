"""Who is measured. Each runs in a process of its own and imports nothing of the others.

A competitor gets the items once and turns each case into a function that does one whole search.
`about` says what it chose, for the row.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SCORES_AT_ONCE = 2 << 30  # bytes of scores that torch and numpy hold; more queries go in parts


class Unable(Exception):
    """The competitor cannot do this case; the message says why in one sentence."""


@dataclass
class Inputs:
    """What one search gets: queries [B, D], mask [N] or [B, N], ids to leave out [B, E]."""

    queries: np.ndarray
    k: int
    mask: np.ndarray | None = None
    exclude: np.ndarray | None = None


Answer = tuple[np.ndarray, np.ndarray]  # ids and scores, each [B, k]


class Competitor(Protocol):
    about: dict[str, Any]

    def load(self, items: np.ndarray) -> None: ...

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]: ...


class Ours:
    """hypertower's index, through its Python face: what a caller waits for is what is timed."""

    def __init__(self, threads: int) -> None:
        self.about: dict[str, Any] = {}
        self._threads = threads

    def load(self, items: np.ndarray) -> None:
        import hypertower as ht

        if hasattr(ht, "TopKIndex"):
            self._search = ht.TopKIndex(items, threads=self._threads).search
        else:
            self._search = lambda q, k, **more: ht.topk(q, items, k, **more)

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        exclude = None if inputs.exclude is None else list(inputs.exclude)
        return lambda: self._search(inputs.queries, inputs.k, mask=inputs.mask, exclude=exclude,
                                    threads=self._threads)


def _openblas(name_part: str) -> str:
    """Version and core type of the OpenBLAS that this process has loaded."""
    paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()
             if name_part in line}
    for path in paths:
        library = ctypes.CDLL(path)
        config, core = library.openblas_get_config, library.openblas_get_corename
        config.restype = core.restype = ctypes.c_char_p
        return f"{' '.join(config().decode().split()[:2])} {core().decode()}"
    return "unknown"


class Faiss:
    """`IndexFlatIP`: as it comes, or with the faster of its ways chosen for each case.

    Its ways: matrix products by BLAS or a scan for each query; with a filter only the scan, which
    tests a bitmap, or a range of ids where the filter happens to be one. A range is another filter
    than ours with the same share, and the most favourable one; the answer is checked against it.
    """

    BLAS_ALWAYS, BLAS_NEVER = 1, (1 << 31) - 1

    def __init__(self, threads: int, best: bool) -> None:
        import faiss

        self._faiss = faiss
        self._best = best
        faiss.omp_set_num_threads(threads)
        self._default = faiss.cvar.distance_compute_blas_threshold
        self.about: dict[str, Any] = {"version": faiss.__version__,
                                      "blas": _openblas("libopenblaso")}

    def load(self, items: np.ndarray) -> None:
        self._index = self._faiss.IndexFlatIP(items.shape[1])
        self._index.add(items)

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        if inputs.exclude is not None or (inputs.mask is not None and inputs.mask.ndim == 2):
            raise Unable("faiss takes one filter for all queries of a search")
        if inputs.mask is None:
            ways = [self._unfiltered(inputs, t) for t in (self.BLAS_ALWAYS, self.BLAS_NEVER)]
            default = self._unfiltered(inputs, self._default)
        else:
            ways = [self._filtered(inputs, name) for name in ("range", "bitmap")]
            default = ways[1]
        chosen, about = self._fastest(ways, inputs.queries) if self._best else default
        self.about.update(about)
        return chosen

    def _unfiltered(self, inputs: Inputs, threshold: int) -> tuple[Callable[..., Answer], dict]:
        def search(queries: np.ndarray = inputs.queries) -> Answer:
            self._faiss.cvar.distance_compute_blas_threshold = threshold
            scores, ids = self._index.search(queries, inputs.k)
            return ids, scores

        used = len(inputs.queries) * inputs.queries.shape[1] >= threshold
        return search, {"way": "BLAS" if used else "scan", "blas_threshold": threshold}

    def _filtered(self, inputs: Inputs, name: str) -> tuple[Callable[..., Answer], dict]:
        mask = inputs.mask
        assert mask is not None
        if name == "range":
            selector = self._faiss.IDSelectorRange(0, int(mask.sum()))
        else:
            bits = np.packbits(mask, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(len(mask), self._faiss.swig_ptr(bits))
            selector.bits = bits  # the selector only points at them
        parameters = self._faiss.SearchParameters(sel=selector)

        def search(queries: np.ndarray = inputs.queries) -> Answer:
            scores, ids = self._index.search(queries, inputs.k, params=parameters)
            return ids, scores

        return search, {"way": f"scan, {name} selector", "selector": name}

    @staticmethod
    def _fastest(ways: list[tuple[Callable[..., Answer], dict]],
                 queries: np.ndarray) -> tuple[Callable, dict]:
        def seconds(way: tuple[Callable[..., Answer], dict]) -> float:
            """Time of all queries; a scan takes each alone, so a few of them tell."""
            some = queries[:8] if way[1]["way"].startswith("scan") else queries
            start = time.perf_counter()
            way[0](some)
            return (time.perf_counter() - start) * len(queries) / len(some)

        # In turns, and the best of several, because a busy neighbour must not choose.
        turns: list[list[float]] = []
        end = time.perf_counter() + 3
        while len(turns) < 2 or (len(turns) < 5 and time.perf_counter() < end):
            turns.append([seconds(way) for way in ways])
        return min(zip(ways, map(min, zip(*turns, strict=True)), strict=True),
                   key=lambda pair: pair[1])[0]


def _parts(batch: int, rows: int) -> list[slice]:
    """The queries in parts whose scores fit `SCORES_AT_ONCE`."""
    step = max(1, min(batch, SCORES_AT_ONCE // (4 * rows)))
    return [slice(start, min(batch, start + step)) for start in range(0, batch, step)]


def _allowed(inputs: Inputs) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(mask to apply to the scores, or ids of the few rows to search instead)."""
    if inputs.exclude is not None or (inputs.mask is not None and inputs.mask.ndim == 2):
        raise Unable("written here for one filter for all queries")
    if inputs.mask is None or inputs.mask.mean() >= 0.2:
        return inputs.mask, None
    return None, np.flatnonzero(inputs.mask)


class Torch:
    """What most people write: `mm`, then `topk`; few allowed rows are gathered first."""

    def __init__(self, threads: int) -> None:
        import torch

        self._torch = torch
        torch.set_num_threads(threads)
        self.about: dict[str, Any] = {"version": torch.__version__}

    def load(self, items: np.ndarray) -> None:
        self._items = self._torch.from_numpy(items)

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        torch, items = self._torch, self._items
        mask, some = _allowed(inputs)
        banned = None if mask is None else torch.from_numpy(~mask)
        kept = None if some is None else torch.from_numpy(some)
        queries = torch.from_numpy(inputs.queries)
        rows = len(items) if kept is None else len(kept)
        k = min(inputs.k, rows)

        @torch.inference_mode()
        def search() -> Answer:
            found = items if kept is None else items[kept]
            ids, best = [], []
            for part in _parts(len(queries), rows):
                scores = queries[part] @ found.T
                if banned is not None:
                    scores.masked_fill_(banned, float("-inf"))
                top = torch.topk(scores, k)
                best.append(top.values)
                ids.append(top.indices if kept is None else kept[top.indices])
            return torch.cat(ids).numpy(), torch.cat(best).numpy()

        return search


class Numpy:
    """Product, partition, sort."""

    def __init__(self, threads: int) -> None:
        del threads  # its BLAS has read them from the environment
        self.about: dict[str, Any] = {"version": np.__version__}

    def load(self, items: np.ndarray) -> None:
        self._items = items

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        mask, some = _allowed(inputs)
        rows = len(self._items) if some is None else len(some)
        k = min(inputs.k, rows)

        def search() -> Answer:
            found = self._items if some is None else self._items[some]
            answers = []
            for part in _parts(len(inputs.queries), rows):
                scores = inputs.queries[part] @ found.T
                if mask is not None:
                    scores[:, ~mask] = -np.inf
                top = np.argpartition(scores, rows - k, axis=1)[:, rows - k:]
                best = np.take_along_axis(scores, top, axis=1)
                order = np.argsort(-best, axis=1)
                ids = np.take_along_axis(top, order, axis=1)
                answers.append((ids if some is None else some[ids],
                                np.take_along_axis(best, order, axis=1)))
            return (np.concatenate([ids for ids, _ in answers]),
                    np.concatenate([best for _, best in answers]))

        return search


class Usearch:
    """Its exact search, which has no filter."""

    def __init__(self, threads: int) -> None:
        import usearch
        from usearch.index import MetricKind, search

        self._call, self._metric, self._threads = search, MetricKind.IP, threads
        self.about: dict[str, Any] = {"version": usearch.__version__}

    def load(self, items: np.ndarray) -> None:
        self._items = items

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        if inputs.mask is not None or inputs.exclude is not None:
            raise Unable("usearch's exact search has no filter")

        def search() -> Answer:
            found = self._call(self._items, inputs.queries, inputs.k, self._metric, exact=True,
                               threads=self._threads)
            return (np.atleast_2d(found.keys).astype(np.int64),
                    1 - np.atleast_2d(found.distances))

        return search


def environment(name: str, threads: int) -> dict[str, str]:
    """Variables of the worker's process: threads, and the BLAS of `faiss-best`.

    faiss's wheel carries an old OpenBLAS that does not know newer processors; its AVX-512 kernels
    must be asked for. Whatever the caller's shell has set for OpenBLAS would change the defaults.
    """
    out = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    out.update({v: str(threads) for v in
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})
    if name == "faiss-best":
        wide = "avx512f" in Path("/proc/cpuinfo").read_text()
        out["OPENBLAS_CORETYPE"] = "SkylakeX" if wide else "Haswell"
    return out


def competitor(name: str, threads: int) -> Competitor:
    """The competitor of that name."""
    makers: dict[str, Callable[[], Competitor]] = {
        "hypertower": lambda: Ours(threads),
        "faiss-default": lambda: Faiss(threads, best=False),
        "faiss-best": lambda: Faiss(threads, best=True),
        "torch": lambda: Torch(threads),
        "numpy": lambda: Numpy(threads),
        "usearch": lambda: Usearch(threads),
    }
    return makers[name]()
