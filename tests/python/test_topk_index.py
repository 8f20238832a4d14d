"""ht.TopKIndex: the answers of ht.topk from items prepared once."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import hypertower as ht

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize(("b", "n", "d", "k"), [
    (1, 1, 1, 1), (3, 5000, 17, 10), (40, 3000, 64, 100), (2, 5, 8, 9), (0, 10, 4, 3)])
def test_equals_topk(b: int, n: int, d: int, k: int) -> None:
    q, x = normal(b, d), normal(n, d)
    for found, expected in zip(ht.TopKIndex(x).search(q, k), ht.topk(q, x, k), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_masks_and_lists() -> None:
    q, x = normal(6, 8), normal(700, 8)
    index = ht.TopKIndex(x, threads=1)
    mask = RNG.random(700) < 0.3
    lists = [[1, 2, 3], [], [5], [699], [0], [7, 7]]
    adjust = [([4, 9], [10.0, -1.0])] * 6
    for options in ({"mask": mask}, {"exclude": lists}, {"mask": mask, "adjust": adjust}):
        found, expected = index.search(q, 20, **options), ht.topk(q, x, 20, **options)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("shape", [(700,), (6, 700)])
def test_a_prepared_mask_is_the_mask(shape: tuple[int, ...]) -> None:
    q, x = normal(6, 8), normal(700, 8)
    mask = RNG.random(shape) < 0.3
    prepared = ht.TopKMask(mask)
    for found in (ht.topk(q, x, 20, mask=prepared), ht.TopKIndex(x).search(q, 20, mask=prepared)):
        np.testing.assert_array_equal(found[0], ht.topk(q, x, 20, mask=mask)[0])
    with pytest.raises(ht.ArgumentError, match=r"^mask: expected shape \(701,\) or \(6, 701\)"):
        ht.topk(q, normal(701, 8), 20, mask=prepared)
    with pytest.raises(ht.ArgumentError, match=r"^mask: expected shape \(N,\) or \(B, N\), got"):
        ht.TopKMask(np.ones((1, 2, 3), bool))


def test_append_and_remove() -> None:
    x = normal(300, 5)
    index = ht.TopKIndex(x[:200])
    assert index.append(x[200:]) == 200
    index.remove([0, 250, 250])
    assert (len(index), index.dim) == (298, 5)
    gone = np.ones(300, bool)
    gone[[0, 250]] = False
    q = normal(4, 5)
    np.testing.assert_array_equal(index.search(q, 50)[0], ht.topk(q, x, 50, mask=gone)[0])


def test_keeps_the_items_alive() -> None:
    x = normal(2000, 16)
    expected = ht.topk(x[:3], x.copy(), 5)[0]
    queries, index = x[:3].copy(), ht.TopKIndex(x.copy())
    del x
    gc.collect()
    np.testing.assert_array_equal(index.search(queries, 5)[0], expected)


def test_nbytes_is_about_a_quarter_of_the_items() -> None:
    x = normal(20_000, 128)
    assert ht.TopKIndex(x).nbytes < 0.28 * x.nbytes


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(500, 12)
    ids, scores = ht.TopKIndex(x).search(x[:2], 3)
    assert isinstance(ids, torch.Tensor) and isinstance(scores, torch.Tensor)
    assert torch.equal(ids, ht.topk(x[:2], x, 3)[0])


def test_bad_input_is_one_sentence() -> None:
    index = ht.TopKIndex(normal(50, 4))
    with pytest.raises(ht.ArgumentError, match=r"^k: expected at least 1, got 0\.$"):
        index.search(normal(1, 4), 0)
    with pytest.raises(ht.ArgumentError, match=r"^topk: expected items of 3 columns"):
        index.search(normal(1, 3), 1)
    with pytest.raises(ht.ArgumentError, match=r"^index: expected item ids in \[0, 50\) to remove"):
        index.remove([50])
    with pytest.raises(ht.ArgumentError, match=r"^index: expected items of 4 columns"):
        index.append(normal(1, 5))
    bad = normal(50, 4)
    bad[7, 1] = np.nan
    with pytest.raises(ht.ArgumentError, match="in row 7 of the items"):
        ht.TopKIndex(bad)
    with pytest.raises(ht.NumericError, match=r"queries\[1\]"):
        index.search(bad[6:8], 1)
