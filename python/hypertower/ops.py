"""The kernels, for experiments: numpy in, numpy out; torch in, torch out.

With torch tensors that require gradients, `embedding_bag` and `softmax_loss` are differentiable,
and so are the scores of `topk` (the choice of items is not). CUDA tensors run on their own device
and stream. In functions that `torch.compile` compiles they are calls between compiled parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from ._arguments import is_tensor, need_integers, need_k, shown
from ._memory import ABSENT, Backend, NumpyBackend, backend_of, need_length, need_matrix, uncompiled
from .errors import ArgumentError, NumericError

if TYPE_CHECKING:
    from ._tables import EmbeddingTables

__all__ = ["EmbeddingTables", "TopKIndex", "TopKMask", "embedding_bag", "softmax_loss", "topk"]


def __getattr__(name: str) -> Any:
    if name == "EmbeddingTables":  # imports torch
        from ._tables import EmbeddingTables

        return EmbeddingTables
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _needs_grad(*tensors: Any) -> bool:
    return any(getattr(t, "requires_grad", False) for t in tensors)


def _per_query(lists: Any, rows: int, name: str, what: str) -> list[Any]:
    if isinstance(lists, (str, Mapping)) or not hasattr(lists, "__len__"):
        raise ArgumentError(f"{name}: expected {rows} {what}, one per query, got {shown(lists)}.")
    if len(lists) != rows:
        raise ArgumentError(f"{name}: expected {rows} {what}, one per query, got {len(lists)}.")
    return list(lists)


def _ids(x: Any, name: str) -> np.ndarray:
    """One list of ids as int64."""
    x = need_integers(name, x)
    return np.asarray(x.cpu() if is_tensor(x) else x).astype(np.int64).reshape(-1)


def _joined(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _offsets(parts: list[np.ndarray]) -> np.ndarray:
    return np.cumsum([0, *(len(p) for p in parts)], dtype=np.int64)


def _excluded(exclude: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """A list of id lists, or a matrix padded with -1, as values and offsets."""
    lists = _per_query(exclude, rows, "exclude", "lists")
    if isinstance(exclude, np.ndarray) and exclude.ndim == 2:  # at once: lists cost 4 us each
        ids = need_integers("exclude", exclude)
        real = ids >= 0
        return ids[real].astype(np.int64), np.cumsum([0, *real.sum(axis=1)], dtype=np.int64)
    parts = [_ids(x, f"exclude[{i}]") for i, x in enumerate(lists)]
    parts = [p[p >= 0] for p in parts]
    return _joined(parts, np.int64), _offsets(parts)


def _adjusted(adjust: Any, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (ids, deltas) as values, offsets and deltas; ids of -1 are padding here too."""
    ids, deltas = [], []
    for i, pair in enumerate(_per_query(adjust, rows, "adjust", "pairs (ids, deltas)")):
        whole = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not whole or not all(hasattr(part, "__len__") for part in pair):
            raise ArgumentError(f"adjust[{i}]: expected per query a pair (ids, deltas) such as "
                                f"([4, 9], [0.5, -1.0]), got {shown(pair)}.")
        row = _ids(pair[0], f"adjust[{i}]")
        delta = NumpyBackend().array(pair[1].cpu() if is_tensor(pair[1]) else pair[1], "f32",
                                     f"adjust[{i}]").reshape(-1)
        if len(row) != len(delta):
            raise ArgumentError(f"adjust[{i}]: expected as many deltas as ids, got {len(delta)} "
                                f"for {len(row)}.")
        ids.append(row[row >= 0])
        deltas.append(delta[row >= 0])
    return _joined(ids, np.int64), _offsets(ids), _joined(deltas, np.float32)


class TopKMask:
    """Which items may be found, prepared once for many searches: one bit an item.

    allowed: bool [N] for all queries or [B, N], numpy or torch. Searches take it for `mask`, where
    they would otherwise prepare what they are given each time.
    """

    def __init__(self, allowed: Any, *, threads: int | None = None) -> None:
        if is_tensor(allowed):
            allowed = allowed.detach().cpu().numpy()
        allowed = np.ascontiguousarray(np.asarray(allowed, dtype=bool))
        if allowed.ndim not in (1, 2):
            raise ArgumentError(f"mask: expected shape (N,) or (B, N), got {allowed.shape}.")
        self.shape: tuple[int, ...] = allowed.shape
        self._words = _core.pack_masks(np.atleast_2d(allowed), NumpyBackend().place(threads)[1])
        self._where: dict[Any, tuple[Any, Any]] = {}

    def words_for(self, b: Backend, rows: int, items: int) -> tuple[Any, Any]:
        """64-bit words [M, W] and the mask of each query, where `b` searches."""
        if self.shape not in ((items,), (rows, items)):
            raise ArgumentError(
                f"mask: expected shape ({items},) or ({rows}, {items}), got {self.shape}."
            )
        place = str(getattr(b, "device", "numpy"))
        if place not in self._where:
            of_row = None if len(self.shape) == 1 else np.arange(rows, dtype=np.int32)
            self._where[place] = (b.array(self._words, "u64"),
                                  None if of_row is None else b.array(of_row, "i32"))
        return self._where[place]


def _search(b: Backend, search: Callable[[_core.TopKArguments], None], rows: int, items: int,
            k: int, mask: Any, exclude: Any, adjust: Any, threads: int | None) -> tuple[Any, Any]:
    """Runs `search` with masks and lists as the kernels take them; ids and scores [rows, k]."""
    words = of_row = values = offsets = a_values = a_offsets = deltas = None
    if mask is not None:
        if not isinstance(mask, TopKMask):
            mask = TopKMask(mask, threads=threads)
        words, of_row = mask.words_for(b, rows, items)
    if exclude is not None:
        values, offsets = (b.array(a, "i64") for a in _excluded(exclude, rows))
    if adjust is not None:
        a_ids, a_bounds, a_deltas = _adjusted(adjust, rows)
        a_values, a_offsets = b.array(a_ids, "i64"), b.array(a_bounds, "i64")
        deltas = b.array(a_deltas, "f32")
    ids = b.empty((rows, k), "i64")
    scores = b.empty((rows, k), "f32")
    count, status = b.empty((rows,), "i32"), b.empty_for_host((rows,), "i32")
    m = b.memory
    search(_core.TopKArguments(m(words), m(of_row), m(values), m(offsets), m(a_values),
                               m(a_offsets), m(deltas), m(ids), m(scores), m(count), m(status)))
    bad = np.flatnonzero(np.asarray(status))
    if bad.size:
        raise NumericError(f"queries[{bad[0]}]: expected finite numbers, got NaN or infinity.")
    return ids, scores


class TopKIndex:
    """Items prepared once for many exact searches: `topk` over the same items, only faster.

    items: float32 [N, D], numpy or torch; kept, not copied, and must not change. Item i has id i.
    Prepared is an int8 form of a quarter of their size, where the items are: an index of CUDA
    tensors searches on their GPU, and fastest where queries and answers keep their places in
    memory. Answers are those of `topk` to the bit. Threads may search while one appends or removes
    (on the CPU alone): each search sees one state.
    """

    def __init__(self, items: Any, *, threads: int | None = None) -> None:
        b = backend_of(items)
        x = b.array(items, "f32", "items")
        need_matrix("items", x)
        place = b.place(threads)
        self._device = x.device if place[0] else None
        self._index: _core.TopKIndex | _core.TopKDeviceIndex = (
            _core.TopKDeviceIndex(b.memory(x), x, place) if place[0]
            else _core.TopKIndex(b.memory(x), x, place[1]))

    def _on_cpu(self, what: str) -> _core.TopKIndex:
        if isinstance(self._index, _core.TopKDeviceIndex):
            raise ArgumentError(f"TopKIndex: expected an index in host memory to {what}, got one "
                                f"on {self._device}; make a new one of the items that you want.")
        return self._index

    @uncompiled
    def search(self, queries: Any, k: int, mask: Any = None, exclude: Any = None, *,
               adjust: Any = None, threads: int | None = None) -> tuple[Any, Any]:
        """The k best items of each query; arguments and answer as in `topk`."""
        index = self._index
        b = backend_of(queries)
        if self._device is not None and getattr(queries, "device", None) != self._device:
            where = getattr(queries, "device", "an array in host memory")
            raise ArgumentError(f"queries: expected a tensor on {self._device}, where the items "
                                f"are, got {where}.")
        q = b.array(queries, "f32", "queries")
        need_matrix("queries", q)
        count = need_k(k, index.size)
        return _search(b, lambda a: index.search(b.memory(q), count, a, b.place(threads)),
                       q.shape[0], index.size, count, mask, exclude, adjust, threads)

    def append(self, items: Any, *, threads: int | None = None) -> int:
        """Adds items at the end and returns the id of the first; they are kept, not copied."""
        index = self._on_cpu("append")
        b = backend_of(items)
        x = b.array(items, "f32", "items")
        need_matrix("items", x)
        on_cuda, cores, _ = b.place(threads)
        if on_cuda:
            raise ArgumentError(f"items: expected a matrix in host memory, as the index has, got "
                                f"one on {x.device}.")
        self._index = index.appended(b.memory(x), x, cores)
        return index.size

    def remove(self, ids: Any) -> None:
        """No search finds these ids any more; other ids stay what they are."""
        flat = np.ascontiguousarray(_ids(ids, "ids"))
        self._index = self._on_cpu("remove").without((flat.ctypes.data, flat.shape[0], 1, 1))

    def __len__(self) -> int:
        """Items that a search can find."""
        return self._index.num_live

    @property
    def dim(self) -> int:
        return self._index.dim

    @property
    def nbytes(self) -> int:
        """Memory of the prepared form; the items themselves are the caller's."""
        return self._index.bytes


@uncompiled
def topk(queries: Any, items: Any, k: int, mask: Any = None, exclude: Any = None, *,
         adjust: Any = None, threads: int | None = None) -> tuple[Any, Any]:
    """The k items of largest inner product with each query, exactly.

    queries [B, D], items [N, D], float32. Order: score descending, then item index ascending; the
    score is computed in double precision and rounded once, so every device and thread count gives
    the same bits. Returns (ids int64 [B, k], scores float32 [B, k]); where fewer than k items are
    allowed the tail is -1 / -inf. k may exceed N up to 100,000.

    mask: bool [N] or [B, N], True = allowed, or a TopKMask. exclude: per query a list of item
    indices. adjust: per query a pair (item indices, deltas) added to those items' scores.
    """
    b = backend_of(queries, items)
    q, x = b.array(queries, "f32", "queries"), b.array(items, "f32", "items")
    need_matrix("queries", q)
    need_matrix("items", x)
    count = need_k(k, x.shape[0])
    ids, scores = _search(b, lambda a: _core.topk(b.memory(q), b.memory(x), count, a,
                                                  b.place(threads)),
                          q.shape[0], x.shape[0], count, mask, exclude, adjust, threads)
    if b.name == "torch" and _needs_grad(queries, items):
        from ._autograd import attach_topk_gradient

        scores = attach_topk_gradient(queries, items, ids, scores)
    return ids, scores


def _bag_arrays(b: Backend, ids: Any, offsets: Any, weights: Any) -> tuple[Any, Any, Any]:
    flat = b.array(ids, "i64", "ids")
    if flat.ndim == 2 and offsets is None:  # [bags, length]: every bag has the same length
        bags, length = flat.shape
        offsets = np.arange(bags + 1, dtype=np.int64) * length
        weights = None if weights is None else weights.reshape(-1)
    elif offsets is None:
        raise ArgumentError("offsets: expected bag offsets [bags + 1] with ids of one dimension.")
    flat = flat.reshape(-1)
    w = None if weights is None else b.array(weights, "f32", "weights")
    if w is not None:
        need_length("weights", w, flat.shape[0], "id")
    return flat, b.array(offsets, "i64", "offsets"), w


@uncompiled
def embedding_bag(table: Any, ids: Any, offsets: Any = None, *, weights: Any = None,
                  mode: str = "sum", threads: int | None = None) -> Any:
    """Sums (or averages) rows of `table` per bag.

    table [rows, D] float32; ids int64 [n] with offsets int64 [bags + 1] (first 0, last n), or ids
    [bags, length] alone. weights float32, one per id. Empty bags give zeros; an id outside the
    table is an error that names its bag and position. Returns float32 [bags, D].
    """
    b = backend_of(table, ids)
    t = b.array(table, "f32", "table")
    need_matrix("table", t)
    flat, off, w = _bag_arrays(b, ids, offsets, weights)
    if b.name == "torch" and _needs_grad(table, weights):
        from ._autograd import EmbeddingBag

        return EmbeddingBag.apply(table, weights, b, flat, off, mode, threads)
    out = b.empty((off.shape[0] - 1, t.shape[1]), "f32")
    _core.embedding_bag(b.memory(t), b.memory(flat), b.memory(off), b.memory(w), mode,
                        b.memory(out), b.place(threads))
    return out


@uncompiled
def softmax_loss(queries: Any, columns: Any, target: Any, *, scale: Any = 1.0, logq: Any = None,
                 weight: Any = None, column_item: Any = None, column_user: Any = None,
                 row_user: Any = None, threads: int | None = None) -> Any:
    """Softmax cross entropy of queries over candidate columns; the logits are never stored.

    queries [B, D], columns [C, D], target [B] (the positive column of each row), float32 and int64.
    Logit = scale * <query, column> - logq[column]; scale, the inverse of a temperature, is a number
    or a tensor of one element, which may be learned. A column of the same item as the target
    (`column_item`) or a positive of the same person (`column_user`, `row_user`) is left out of the
    row. Returns the loss of each row [B], times `weight` where given.
    """
    if is_tensor(scale):
        if not is_tensor(queries) or scale.numel() != 1:
            raise ArgumentError("scale: expected a number or, with torch queries, a tensor of one "
                                f"element, got {shown(scale)}.")
        queries, scale = queries * scale.reshape(()), 1.0
    b = backend_of(queries, columns)
    q, c = b.array(queries, "f32", "queries"), b.array(columns, "f32", "columns")
    need_matrix("queries", q)
    need_matrix("columns", c)
    optional: Sequence[tuple[str, Any, str, int, str]] = (
        ("target", target, "i64", q.shape[0], "query"),
        ("logq", logq, "f32", c.shape[0], "column"),
        ("weight", weight, "f32", q.shape[0], "query"),
        ("column_item", column_item, "i64", c.shape[0], "column"),
        ("column_user", column_user, "i64", c.shape[0], "column"),
        ("row_user", row_user, "i64", q.shape[0], "query"),
    )
    extra = []
    for name, value, dtype, expected, what in optional:
        array = None if value is None else b.array(value, dtype, name)
        if array is not None:
            need_length(name, array, expected, what)
        extra.append(array)
    if b.name == "torch" and _needs_grad(queries, columns):
        from ._autograd import SoftmaxLoss

        return SoftmaxLoss.apply(queries, columns, b, extra, float(scale), threads)
    loss, log_z = b.empty((q.shape[0],), "f32"), b.empty((q.shape[0],), "f32")
    m = b.memory
    tgt, lq, wt, ci, cu, ru = (ABSENT if a is None else m(a) for a in extra)
    _core.softmax_loss_forward(m(q), m(c), tgt, float(scale), lq, wt, ci, cu, ru, m(loss),
                               m(log_z), b.place(threads))
    return loss
