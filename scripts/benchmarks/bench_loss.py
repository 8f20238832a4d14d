"""The streamed softmax loss against torch's cross entropy over stored logits."""

from __future__ import annotations

import torch
from common import Suite

from hypertower import ops


def compare(ours: tuple[torch.Tensor, ...], peer: tuple[torch.Tensor, ...]) -> None:
    for a, b in zip(ours, peer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def main() -> None:
    suite = Suite(__doc__ or "")
    torch.manual_seed(1)
    shapes = [(128, 5_000, 64)] if suite.quick else [(512, 20_000, 64), (512, 100_000, 64)]
    for batch, columns, dim in shapes:
        unit = torch.nn.functional.normalize
        q = unit(torch.randn(batch, dim, device=suite.device)).requires_grad_()
        c = unit(torch.randn(columns, dim, device=suite.device)).requires_grad_()
        target = torch.randint(columns, (batch,), device=suite.device)
        logq = torch.log(torch.rand(columns, device=suite.device) + 1e-3)

        def ours(q=q, c=c, target=target, logq=logq):
            loss = ops.softmax_loss(q, c, target, scale=10.0, logq=logq)
            return (loss.detach(), *torch.autograd.grad(loss.mean(), (q, c)))

        def peer(q=q, c=c, target=target, logq=logq):
            logits = 10.0 * (q @ c.T) - logq
            loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
            return (loss.detach(), *torch.autograd.grad(loss.mean(), (q, c)))

        case = {"B": batch, "C": columns, "D": dim, "op": "forward+backward", "peer": "torch"}
        suite.speed_up("L2", case, ours, peer, compare)


if __name__ == "__main__":
    main()
