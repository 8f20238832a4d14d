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

    def load(self, items: np.ndarray) -> None:
        """Takes over the items of a file. What is searched must be a copy in memory of its own,
        which numpy asks to be in huge pages, so that no competitor reads slower memory."""

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]: ...


class Ours:
    """hypertower's index, through its Python face: what a caller waits for is what is timed."""

    def __init__(self, threads: int) -> None:
        self.about: dict[str, Any] = {}
        self._threads = threads

    def load(self, items: np.ndarray) -> None:
        import hypertower as ht

        self._search = ht.TopKIndex(np.array(items), threads=self._threads).search
        self._mask = ht.TopKMask

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        exclude = inputs.exclude
        mask = None if inputs.mask is None else self._mask(inputs.mask)
        return lambda: self._search(inputs.queries, inputs.k, mask=mask, exclude=exclude,
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


@dataclass(frozen=True)
class _Way:
    """One way to have faiss do a search."""

    threads: int
    threshold: int  # of queries times dimensions, from which it multiplies matrices by BLAS
    parameters: Any = None
    selector: str = ""

    def by_scan(self, queries: np.ndarray) -> bool:
        """Whether it takes each query alone; it always does so with a bitmap."""
        return self.selector == "bitmap" or queries.size < self.threshold

    def about(self, queries: np.ndarray) -> dict[str, Any]:
        out = {"way": "scan" if self.by_scan(queries) else "BLAS",
               "blas_threshold": self.threshold, "threads_used": self.threads}
        return {**out, "selector": self.selector} if self.selector else out


class Faiss:
    """`IndexFlatIP`: as it comes, or with the fastest of its ways chosen for each case.

    Its ways: matrix products by BLAS, or a scan for each query; all threads, or one, which is
    faster where its threads get into each other's way; with a filter a bitmap, or a range of ids
    where the filter is one.
    """

    BLAS_ALWAYS, BLAS_NEVER = 1, (1 << 31) - 1

    def __init__(self, threads: int, best: bool) -> None:
        import faiss

        self._faiss = faiss
        self._best = best
        self._threads = threads
        self._default = faiss.cvar.distance_compute_blas_threshold
        self.about: dict[str, Any] = {"version": faiss.__version__,
                                      "blas": _openblas("libopenblaso")}

    def load(self, items: np.ndarray) -> None:
        self._index = self._faiss.IndexFlatIP(items.shape[1])
        self._index.add(items)

    def prepare(self, inputs: Inputs) -> Callable[[], Answer]:
        parameters, selector = self._filter(inputs)

        def way(threads: int, threshold: int) -> _Way:
            return _Way(threads, threshold, parameters, selector)

        chosen = way(self._threads, self._default)
        if self._best:
            thresholds = [self.BLAS_NEVER] + [self.BLAS_ALWAYS] * (selector != "bitmap")
            chosen = self._fastest([way(t, threshold) for t in sorted({1, self._threads})
                                    for threshold in thresholds], inputs)
        self.about = {"version": self.about["version"], "blas": self.about["blas"],
                      **chosen.about(inputs.queries)}
        return lambda: self._search(chosen, inputs.queries, inputs.k)

    def _filter(self, inputs: Inputs) -> tuple[Any, str]:
        """Search parameters that hold the filter, and its kind."""
        if inputs.exclude is not None or (inputs.mask is not None and inputs.mask.ndim == 2):
            raise Unable("faiss takes one filter for all queries of a search")
        if inputs.mask is None:
            return None, ""
        first, count = int(inputs.mask.argmax()), int(inputs.mask.sum())
        if inputs.mask[first:first + count].all():
            kind, selector = "range", self._faiss.IDSelectorRange(first, first + count)
        else:
            bits = np.packbits(inputs.mask, bitorder="little")
            kind = "bitmap"
            selector = self._faiss.IDSelectorBitmap(len(inputs.mask), self._faiss.swig_ptr(bits))
            selector.bits_kept = bits  # the selector only points at them
        return self._faiss.SearchParameters(sel=selector), kind

    def _search(self, way: _Way, queries: np.ndarray, k: int) -> Answer:
        self._faiss.omp_set_num_threads(way.threads)
        self._faiss.cvar.distance_compute_blas_threshold = way.threshold
        scores, ids = self._index.search(queries, k, params=way.parameters)
        return ids, scores

    def _fastest(self, ways: list[_Way], inputs: Inputs) -> _Way:
        def seconds(way: _Way) -> float:
            """Time of all queries; a scan takes each alone, so some of them tell."""
            queries = inputs.queries[:16] if way.by_scan(inputs.queries) else inputs.queries
            start = time.perf_counter()
            self._search(way, queries, inputs.k)
            return (time.perf_counter() - start) * len(inputs.queries) / len(queries)

        # In turns, and the best of several, because a busy neighbour must not choose.
        turns: list[list[float]] = []
        end = time.perf_counter() + 2
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
        self._items = self._torch.from_numpy(np.array(items))

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
        self._items = np.array(items)

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
        self._items = np.array(items)

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
