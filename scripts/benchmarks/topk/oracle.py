"""The right answers, written on their own: float64 scores of all items, the exact order at the end.

Score, order and ties are those of kernels/topk.h: products are exact in float64, eight interleaved
sums meet in a fixed tree, one rounding to float32; score descending, then id ascending.
"""

from __future__ import annotations

import numpy as np

# Queries whose answers are compared, where the batch has them: the first, the last of every usual
# batch, and one between.
CHECKED = (0, 1, 7, 31, 255, 1023)
_BLOCK = 1 << 16


def canonical_scores(query: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Scores of kernels/topk.h, float32 [rows]."""
    rows, dim = items.shape
    lanes = -(-dim // 8) * 8
    q = np.zeros(lanes)
    q[:dim] = query
    out = np.empty(rows, np.float32)
    for start in range(0, rows, _BLOCK):
        block = items[start:start + _BLOCK]
        products = np.zeros((len(block), lanes))
        products[:, :dim] = block
        products *= q
        s = np.zeros((8, len(block)))
        for step in range(0, lanes, 8):
            s += products[:, step:step + 8].T
        total = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
        with np.errstate(over="ignore"):
            out[start:start + len(block)] = total + 0.0  # -0 becomes +0
    return out


class Oracle:
    """Answers of one data set; the scan over all items is done once for all cases."""

    def __init__(self, items: np.ndarray, queries: np.ndarray) -> None:
        self._items = items
        self._queries = queries
        rows = [r for r in CHECKED if r < len(queries)]
        some = queries[rows].astype(np.float64)
        self._scores = {r: np.empty(len(items)) for r in rows}
        longest = 0.0
        for start in range(0, len(items), _BLOCK):
            block = items[start:start + _BLOCK].astype(np.float64)
            longest = max(longest, float(np.sqrt((block * block).sum(1)).max()))
            for row, scores in zip(rows, some @ block.T, strict=True):
                self._scores[row][start:start + len(block)] = scores
        # Far above the error of a float64 sum, far below a difference that float32 can show.
        self._slack = {r: 1e-13 * longest * float(np.linalg.norm(q)) * items.shape[1]
                       for r, q in zip(rows, some, strict=True)}

    def rows(self, batch: int) -> list[int]:
        """The queries of a batch whose answers are known here."""
        return [r for r in self._scores if r < batch]

    def answer(self, row: int, k: int, mask: np.ndarray | None = None,
               exclude: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids and scores of the k best, filled up with -1 and -inf."""
        scores = self._scores[row]
        allowed = np.ones(len(scores), bool) if mask is None else mask.copy()
        if exclude is not None:
            allowed[exclude] = False
        ids = np.flatnonzero(allowed)
        if len(ids) > k:
            least = np.partition(scores[ids], len(ids) - k)[len(ids) - k]
            # Whatever may round to the score of the last place.
            ids = ids[scores[ids] >= least - abs(least) * 2.0**-22 - self._slack[row] - 2.0**-149]
        exact = canonical_scores(self._queries[row], self._items[ids])
        order = np.lexsort((ids, -exact.astype(np.float64)))[:k]
        out_ids, out_scores = np.full(k, -1), np.full(k, -np.inf, np.float32)
        out_ids[:len(order)], out_scores[:len(order)] = ids[order], exact[order]
        return out_ids, out_scores


def mismatch(ours: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> str:
    """What differs from the right answer of one query, to the bit; empty where nothing does."""
    ids = np.flatnonzero(ours[0] != right[0])
    if ids.size:
        return f"place {ids[0]} holds item {ours[0][ids[0]]}, not {right[0][ids[0]]}"
    scores = np.flatnonzero(ours[1].view(np.uint32) != right[1].view(np.uint32))
    if scores.size:
        return f"place {scores[0]} has score {ours[1][scores[0]]!r}, not {right[1][scores[0]]!r}"
    return ""


LEAST_SHARE = 0.98  # of the ids; single precision swaps neighbours at the end of a list


def disagreement(peer: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> str:
    """Where a peer that computes in single precision is wrong beyond rounding; else empty."""
    real = right[0] >= 0
    if not real.any():
        return ""
    got, expected = peer[1][real].astype(np.float64), right[1][real].astype(np.float64)
    scale = np.abs(expected).max()
    if not np.allclose(got, expected, rtol=1e-4, atol=1e-5 * scale):
        worst = np.abs(got - expected).argmax()
        return f"place {worst} has score {got[worst]:.6g}, not {expected[worst]:.6g}"
    share = np.isin(peer[0][real], right[0][real]).mean()
    return "" if share >= LEAST_SHARE else f"only {share:.1%} of the ids are right"
