"""Embedding bags of hypertower against torch's: forward, and backward to the row gradients."""

from __future__ import annotations

import torch
from common import Suite

from hypertower import ops


def compare(ours: torch.Tensor, peer: torch.Tensor) -> None:
    torch.testing.assert_close(ours, peer, rtol=1e-4, atol=1e-4)


def skewed_ids(n: int, rows: int, device: str) -> torch.Tensor:
    """Ids whose frequency falls with a power of their rank, as in click logs."""
    u = torch.rand(n, device=device, dtype=torch.float64)
    exponent = -0.05  # 1 - alpha with alpha = 1.05
    rank = (u * (rows**exponent - 1) + 1) ** (1 / exponent)
    return rank.long().clamp_(1, rows) - 1


def main() -> None:
    suite = Suite(__doc__ or "")
    torch.manual_seed(1)
    rows, dim = (100_000, 64) if suite.quick else (1_000_000, 128)
    bags, length = (2048, 20) if suite.quick else (8192, 20)
    table = torch.randn(rows, dim, device=suite.device)
    offsets = torch.arange(bags + 1, device=suite.device) * length
    out_gradient = torch.randn(bags, dim, device=suite.device)
    inputs = {"uniform": torch.randint(rows, (bags * length,), device=suite.device),
              "zipf1.05": skewed_ids(bags * length, rows, suite.device)}
    for data, ids in inputs.items():
        case = {"rows": rows, "D": dim, "bags": bags, "length": length, "data": data,
                "peer": "torch"}

        def forward(i=ids):
            return ops.embedding_bag(table, i, offsets)

        def torch_forward(i=ids):
            return torch.nn.functional.embedding_bag(i, table, offsets, mode="sum",
                                                     include_last_offset=True)

        suite.speed_up("E3", {**case, "op": "forward"}, forward, torch_forward, compare)

        trained = table.clone().requires_grad_()

        def gradient(i=ids, t=trained):
            return torch.autograd.grad(ops.embedding_bag(t, i, offsets), t, out_gradient)[0]

        def torch_gradient(i=ids, t=trained):
            out = torch.nn.functional.embedding_bag(i, t, offsets, mode="sum",
                                                    include_last_offset=True)
            return torch.autograd.grad(out, t, out_gradient)[0]

        suite.speed_up("E4", {**case, "op": "forward+gradient"}, gradient, torch_gradient, compare)
    suite.close()


if __name__ == "__main__":
    main()
