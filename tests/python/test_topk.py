"""ht.topk: exact, ordered, filtered, in numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest

import hypertower as ht

RNG = np.random.default_rng(7)


def oracle(q: np.ndarray, x: np.ndarray, k: int,
           allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Full sort of the double-precision scores, ties by index."""
    scores = (q.astype(np.float64) @ x.astype(np.float64).T).astype(np.float32)
    ids = np.full((len(q), k), -1)
    best = np.full((len(q), k), -np.inf, np.float32)
    for r in range(len(q)):
        rows = np.flatnonzero(allowed[r])
        order = rows[np.lexsort((rows, -scores[r, rows]))][:k]
        ids[r, : len(order)], best[r, : len(order)] = order, scores[r, order]
    return ids, best


@pytest.mark.parametrize(("b", "n", "d", "k"), [(1, 1, 1, 1), (3, 100, 17, 10), (33, 2000, 64, 100),
                                                (2, 5, 8, 9), (0, 10, 4, 3)])
def test_equals_a_full_sort(b: int, n: int, d: int, k: int) -> None:
    q = RNG.standard_normal((b, d), dtype=np.float32)
    x = RNG.standard_normal((n, d), dtype=np.float32)
    ids, scores = ht.topk(q, x, k)
    want_ids, want_scores = oracle(q, x, k, np.ones((b, n), bool))
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(scores, want_scores, rtol=1e-6)
    assert ids.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize("per_row", [False, True])
def test_mask_and_exclude(per_row: bool) -> None:
    q = RNG.standard_normal((4, 8), dtype=np.float32)
    x = RNG.standard_normal((130, 8), dtype=np.float32)
    mask = RNG.random((4, 130) if per_row else 130) < 0.3
    plain, _ = ht.topk(q, x, 5, mask=mask)
    exclude = [row[:2] for row in plain]
    ids, _ = ht.topk(q, x, 5, mask=mask, exclude=exclude)
    allowed = np.broadcast_to(mask, (4, 130)).copy()
    for r, out in enumerate(exclude):
        allowed[r, out] = False
    np.testing.assert_array_equal(ids, oracle(q, x, 5, allowed)[0])
    padded = np.insert(np.array(exclude), 1, -1, axis=1)
    np.testing.assert_array_equal(ht.topk(q, x, 5, mask=mask, exclude=padded)[0], ids)


def test_fewer_allowed_than_k_leaves_a_tail() -> None:
    x = np.eye(4, dtype=np.float32)
    ids, scores = ht.topk(x[:1], x, 3, mask=[True, False, False, False])
    assert ids.tolist() == [[0, -1, -1]]
    assert scores[0, 0] == 1 and np.isneginf(scores[0, 1:]).all()


def test_adjust_moves_items() -> None:
    x = np.array([[3.0], [2.0], [1.0]], np.float32)
    ids, scores = ht.topk(np.ones((1, 1), np.float32), x, 3, adjust=[([2, 0], [5.0, -np.inf])])
    assert ids.tolist() == [[2, 1, -1]]
    assert scores[0, :2].tolist() == [6.0, 2.0]


def test_ties_go_to_the_smaller_index() -> None:
    ids, _ = ht.topk(np.ones((1, 2), np.float32), np.ones((9, 2), np.float32), 4)
    assert ids.tolist() == [[0, 1, 2, 3]]


def test_threads_do_not_change_bits() -> None:
    q = RNG.standard_normal((9, 32), dtype=np.float32)
    x = RNG.standard_normal((5000, 32), dtype=np.float32)
    one, two = ht.topk(q, x, 50, threads=1), ht.topk(q, x, 50, threads=3)
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()


def test_torch_in_torch_out_with_gradient() -> None:
    torch = pytest.importorskip("torch")
    q = torch.randn(3, 8, requires_grad=True)
    x = torch.randn(50, 8, requires_grad=True)
    ids, scores = ht.topk(q, x, 5)
    want = torch.topk(q @ x.T, 5)
    assert torch.equal(ids, want.indices)
    assert torch.allclose(scores, want.values, atol=1e-5)
    grad = torch.autograd.grad((scores**2).sum(), (q, x))
    expected = torch.autograd.grad((want.values**2).sum(), (q, x))
    for g, e in zip(grad, expected, strict=True):
        assert torch.allclose(g, e, atol=1e-4)


def test_messages() -> None:
    x = np.ones((3, 2), np.float32)
    with pytest.raises(ht.ArgumentError, match="k: expected at least 1, got 0"):
        ht.topk(x, x, 0)
    with pytest.raises(ht.ArgumentError, match=r"queries: expected a matrix of two dimensions"):
        ht.topk(x[0], x, 1)
    with pytest.raises(ht.ArgumentError, match=r"mask: expected shape \(3,\) or \(3, 3\), got"):
        ht.topk(x, x, 1, mask=[True, False])
    with pytest.raises(ht.NumericError, match=r"queries\[1\]: expected finite numbers"):
        ht.topk(np.array([[1, 1], [np.nan, 0]], np.float32), x, 1)
    with pytest.raises(ht.ArgumentError):
        ht.topk(x, np.ones((3, 5), np.float32), 1)
    with pytest.raises(ht.ArgumentError, match="exclude"):
        ht.topk(x, x, 1, exclude=[[0], [7], []])


@pytest.mark.parametrize("items", [1, 7, 63, 64, 65, 200])
def test_masks_of_any_length_and_layout(items: int) -> None:
    rng = np.random.default_rng(items)
    vectors = rng.standard_normal((items, 4), dtype=np.float32)
    queries = rng.standard_normal((3, 4), dtype=np.float32)
    masks = rng.random((items, 3)) < 0.5
    for mask in (masks.T, masks.T.astype(np.int64), masks[:, 0]):  # all of them strided
        ids, _ = ht.topk(queries, vectors, items, mask=mask)
        for row, found in enumerate(ids):
            allowed = mask if mask.ndim == 1 else mask[row]
            assert sorted(found[found >= 0]) == list(np.flatnonzero(allowed))
