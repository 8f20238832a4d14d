"""Torch gradients of `hypertower.ops`; imported only for tensors that need them."""

from __future__ import annotations

from typing import Any

import torch

from . import _core
from ._memory import ABSENT, TorchBackend


def attach_topk_gradient(queries: Any, items: Any, ids: Any, scores: Any) -> Any:
    """Scores with the gradient of the inner products; the values stay the canonical ones."""
    safe = ids.clamp(min=0)
    products = torch.einsum("bd,bkd->bk", queries, items[safe])
    return torch.where(ids >= 0, scores + (products - products.detach()), scores)


class EmbeddingBag(torch.autograd.Function):
    """Forward by our kernel; backward sums row gradients with the plan, then scatters them."""

    @staticmethod
    def forward(ctx: Any, table: Any, weights: Any, b: TorchBackend, ids: Any, offsets: Any,
                mode: str, threads: int | None) -> Any:
        t = b.array(table, "f32")
        w = None if weights is None else b.array(weights, "f32").reshape(-1)
        out = b.empty((offsets.shape[0] - 1, t.shape[1]), "f32")
        _core.embedding_bag(b.memory(t), b.memory(ids), b.memory(offsets), b.memory(w), mode,
                            b.memory(out), b.place(threads))
        ctx.save_for_backward(t, w, ids, offsets)
        ctx.call = (b, mode, threads, None if weights is None else weights.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:
        t, w, ids, offsets = ctx.saved_tensors
        b, mode, threads, weight_shape = ctx.call
        grad = b.array(grad, "f32")
        place = b.place(threads)
        table_grad = weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = b.empty((ids.shape[0],), "f32")
            _core.embedding_weight_gradient(
                b.memory(t), b.memory(ids), b.memory(offsets), b.memory(w), mode, b.memory(grad),
                b.memory(weight_grad), place)
            weight_grad = weight_grad.reshape(weight_shape)
        if ctx.needs_input_grad[0]:
            plan = _core.EmbeddingPlan(t.shape[0], b.memory(ids), b.memory(offsets), b.memory(w),
                                       place)
            row_grad = b.empty((plan.unique_rows, t.shape[1]), "f32")
            _core.embedding_row_gradient(
                plan, b.memory(ids), b.memory(offsets), b.memory(w), mode, b.memory(grad),
                b.memory(row_grad), place)
            table_grad = torch.zeros_like(t)
            table_grad[torch.unique(ids)] = row_grad  # both in ascending order of rows
        return table_grad, weight_grad, None, None, None, None, None


class SoftmaxLoss(torch.autograd.Function):
    """Both passes stream over the columns; only the log-sum-exp of each row is kept."""

    @staticmethod
    def forward(ctx: Any, queries: Any, columns: Any, b: TorchBackend, extra: list[Any],
                scale: float, threads: int | None) -> Any:
        q, c = b.array(queries, "f32"), b.array(columns, "f32")
        loss, log_z = b.empty((q.shape[0],), "f32"), b.empty((q.shape[0],), "f32")
        memories = [ABSENT if a is None else b.memory(a) for a in extra]
        _core.softmax_loss_forward(b.memory(q), b.memory(c), memories[0], scale, *memories[1:],
                                   b.memory(loss), b.memory(log_z), b.place(threads))
        ctx.save_for_backward(q, c, log_z)
        ctx.call = (b, extra, scale, threads)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, ...]:
        q, c, log_z = ctx.saved_tensors
        b, extra, scale, threads = ctx.call
        grad = b.array(grad, "f32")
        d_query, d_column = b.empty(tuple(q.shape), "f32"), b.empty(tuple(c.shape), "f32")
        memories = [ABSENT if a is None else b.memory(a) for a in extra]
        _core.softmax_loss_backward(
            b.memory(q), b.memory(c), memories[0], scale, *memories[1:], b.memory(log_z),
            b.memory(grad), b.memory(d_query), b.memory(d_column), b.place(threads))
        return d_query, d_column, None, None, None, None
