"""ht.ops against numpy and torch: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import hypertower as ht
from hypertower import ops

RNG = np.random.default_rng(3)
torch = pytest.importorskip("torch")


def bags() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = RNG.integers(0, 20, 30)
    offsets = np.array([0, 0, 4, 4, 15, 30])
    return ids, offsets, RNG.standard_normal(30).astype(np.float32)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_embedding_bag_equals_numpy(mode: str, weighted: bool) -> None:
    table = RNG.standard_normal((20, 7)).astype(np.float32)
    ids, offsets, weights = bags()
    w = weights if weighted else np.ones(30, np.float32)
    want = np.zeros((5, 7))
    for b in range(5):
        part = slice(offsets[b], offsets[b + 1])
        if offsets[b + 1] > offsets[b]:
            want[b] = (w[part, None] * table[ids[part]]).sum(0)
            want[b] /= (offsets[b + 1] - offsets[b]) if mode == "mean" else 1
    out = ops.embedding_bag(table, ids, offsets, weights=weights if weighted else None, mode=mode)
    np.testing.assert_allclose(out, want, atol=1e-5)


def test_embedding_bag_of_a_matrix_of_ids() -> None:
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    out = ops.embedding_bag(table, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(out, [[3, 5, 7], [15, 17, 19]])


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_embedding_bag_gradients_equal_torch(mode: str) -> None:
    ids, offsets, weights = (torch.from_numpy(a) for a in bags())
    table = torch.randn(20, 7, requires_grad=True)
    weights.requires_grad_(True)
    rows = (table[ids] * weights[:, None]).split(torch.diff(offsets).tolist())
    want = torch.stack([r.sum(0) / max(1, len(r) if mode == "mean" else 1) for r in rows])
    out = ops.embedding_bag(table, ids, offsets, weights=weights, mode=mode)
    assert torch.allclose(out, want, atol=1e-5)
    for g, e in zip(torch.autograd.grad((out**3).sum(), (table, weights)),
                    torch.autograd.grad((want**3).sum(), (table, weights)), strict=True):
        assert torch.allclose(g, e, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Input #")  # of floats
def test_gradcheck_of_embedding_bag() -> None:
    ids, offsets, weights = (torch.from_numpy(a) for a in bags())
    table = torch.randn(20, 7, requires_grad=True)
    for mode in ("sum", "mean"):
        # Sums of floats: large steps, since the function is linear in either.
        assert torch.autograd.gradcheck(
            lambda t, w, mode=mode: ops.embedding_bag(t, ids, offsets, weights=w, mode=mode),
            (table, weights.requires_grad_()), eps=1e-1, atol=1e-3, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:Input #")  # of floats
def test_gradcheck_of_softmax_loss() -> None:
    q, c = torch.randn(5, 6, requires_grad=True), torch.randn(40, 6, requires_grad=True)
    scale = torch.tensor(0.7, requires_grad=True)
    target = torch.randint(0, 40, (5,))
    assert torch.autograd.gradcheck(
        lambda q, c, s: ops.softmax_loss(q, c, target, scale=s), (q, c, scale), eps=1e-2,
        atol=2e-3, rtol=2e-2)


def test_softmax_loss_takes_a_scale_of_one_element() -> None:
    q, c = torch.randn(5, 6), torch.randn(40, 6)
    target = torch.randint(0, 40, (5,))
    want = ops.softmax_loss(q, c, target, scale=0.5)
    got = ops.softmax_loss(q, c, target, scale=torch.tensor([0.5], dtype=torch.float64))
    assert torch.equal(got, want)
    for queries, scale in ((q, torch.ones(5, 1)), (q.numpy(), torch.tensor(0.5))):
        with pytest.raises(ht.ArgumentError, match="scale: expected a number or, with torch"):
            ops.softmax_loss(queries, c, target, scale=scale)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_ops_in_compiled_functions(backend: str) -> None:
    q, c = torch.randn(8, 16, requires_grad=True), torch.randn(30, 16, requires_grad=True)
    table = torch.randn(20, 16, requires_grad=True)
    target, ids = torch.randint(0, 30, (8,)), torch.randint(0, 20, (8, 3))
    tables = ops.EmbeddingTables({"a": (20, 16)}, lr=0.0)

    def loss(q, c, table):  # type: ignore[no-untyped-def]
        vectors = ops.embedding_bag(table, ids, mode="mean") + tables({"a": ids})["a"]
        return ops.softmax_loss(torch.tanh(q + vectors), c * 2, target).mean()

    def best(q, c):  # type: ignore[no-untyped-def]
        return ops.topk(q * 2, c, 5, exclude=ids)[0] + 1

    torch._dynamo.reset()
    for plain, args in ((loss, (q, c, table)), (best, (q.detach(), c.detach()))):
        compiled = torch.compile(plain, backend=backend)
        want, got = plain(*args), compiled(*args)
        assert torch.equal(got, want)
        if want.requires_grad:
            for g, w in zip(torch.autograd.grad(got, args), torch.autograd.grad(want, args),
                            strict=True):
                assert torch.equal(g, w)


def naive_loss(q, c, target, scale, logq, column_item):  # type: ignore[no-untyped-def]
    z = (q @ c.T) * scale - logq
    hit = column_item[None, :] == column_item[target][:, None]
    hit[torch.arange(len(target)), target] = False
    z = z.masked_fill(hit, float("-inf"))
    return torch.nn.functional.cross_entropy(z, target, reduction="none")


def test_softmax_loss_and_gradients_equal_torch() -> None:
    q = torch.randn(6, 16, requires_grad=True)
    c = torch.randn(40, 16, requires_grad=True)
    target, logq = torch.arange(6), torch.rand(40).log()
    items = torch.randint(0, 15, (40,))
    loss = ops.softmax_loss(q, c, target, scale=3.0, logq=logq, column_item=items)
    want = naive_loss(q, c, target, 3.0, logq, items)
    assert torch.allclose(loss, want, atol=1e-4)
    weight = torch.rand(6)
    for g, e in zip(torch.autograd.grad((loss * weight).sum(), (q, c)),
                    torch.autograd.grad((want * weight).sum(), (q, c)), strict=True):
        assert torch.allclose(g, e, atol=1e-4)
    numpy_loss = ops.softmax_loss(q.detach().numpy(), c.detach().numpy(), target.numpy(), scale=3.0,
                                  logq=logq.numpy(), column_item=items.numpy())
    np.testing.assert_allclose(numpy_loss, want.detach().numpy(), atol=1e-4)


def test_messages() -> None:
    table = np.ones((4, 2), np.float32)
    with pytest.raises(ht.ArgumentError, match="offsets: expected bag offsets"):
        ops.embedding_bag(table, [0, 1])
    with pytest.raises(ht.ArgumentError, match="mode: expected 'sum' or 'mean', got 'max'"):
        ops.embedding_bag(table, [0], [0, 1], mode="max")
    with pytest.raises(ht.ArgumentError, match="4"):
        ops.embedding_bag(table, [0, 4], [0, 2])
    with pytest.raises(ht.ArgumentError, match="target: expected 2 values, one per query"):
        ops.softmax_loss(table[:2], table, [0])
