"""On a GPU: against the same search written with torch (product, then topk), in one process."""

from __future__ import annotations

import torch
from common import Suite

import hypertower as ht


def compare(ours: tuple[torch.Tensor, torch.Tensor],
            peer: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The scores must agree place by place; ids may differ only where torch's rounding decided."""
    torch.testing.assert_close(ours[1], peer[0], rtol=1e-4, atol=1e-4)
    same = (ours[0] == peer[1]).float().mean().item()
    assert same > 0.99, f"only {same:.1%} of the ids agree with torch"


def against_torch(suite: Suite) -> None:
    """S4."""
    torch.manual_seed(1)
    rows, dim = (100_000, 64) if suite.quick else (1_000_000, 128)
    items = torch.randn(rows, dim, device=suite.device)
    allowed = torch.rand(rows, device=suite.device) < 0.5
    for batch in (1, 32, 256):
        queries = torch.randn(batch, dim, device=suite.device)
        for filtered in (0, 0.5):
            mask = allowed if filtered else None

            def ours(q=queries, m=mask):
                return ht.topk(q, items, 100, mask=m)

            def peer(q=queries, m=mask):
                scores = q @ items.T
                if m is not None:
                    scores.masked_fill_(~m, float("-inf"))
                return torch.topk(scores, 100)

            case = {"N": rows, "D": dim, "B": batch, "K": 100, "filter": filtered,
                    "data": "gaussian", "peer": "torch"}
            suite.speed_up("S4", case, ours, peer, compare)
    suite.close()
