"""Two towers in plain torch on hypertower's ops: embedding tables whose optimizer is part of the
backward pass, a sampled softmax that never stores its logits, exact evaluation without what was
seen. Runs in seconds on a laptop:

    python python/examples/train_towers.py
"""

from __future__ import annotations

import numpy as np
import torch

import hypertower as ht
from hypertower import ops

USERS, ITEMS, EVENTS, DIM = 2_000, 3_000, 30, 32
HELD_OUT = 5  # of the events of each user
NEGATIVES, BATCH = 512, 256


def make_events(seed: int = 0) -> np.ndarray:
    """[users, events]: distinct items, drawn by taste and popularity."""
    rng = np.random.default_rng(seed)
    taste, kind = rng.normal(size=(USERS, 6)), rng.normal(size=(ITEMS, 6))
    popularity = -np.log1p(rng.permutation(ITEMS))
    scores = taste @ kind.T + popularity + rng.gumbel(size=(USERS, ITEMS))
    return rng.permuted(np.argsort(-scores, axis=1)[:, :EVENTS], axis=1)


class Towers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = ops.EmbeddingTables({"user": (USERS, DIM), "item": (ITEMS, DIM)}, lr=0.1)
        self.log_scale = torch.nn.Parameter(torch.tensor(1.0))  # a learned temperature

    def loss(self, users: torch.Tensor, columns: torch.Tensor, target: torch.Tensor,
             logq: torch.Tensor) -> torch.Tensor:
        vectors = self.tables({"user": users[:, None], "item": columns[:, None]})
        return ops.softmax_loss(vectors["user"], vectors["item"], target,
                                scale=self.log_scale.exp(), logq=logq).mean()


def recall(ids: np.ndarray, held_out: np.ndarray) -> float:
    return float(np.mean([np.isin(want, got).mean()
                          for want, got in zip(held_out, ids, strict=True)]))


def main(epochs: int = 8) -> tuple[float, float]:
    """Recall@20 of the towers and of the most popular items."""
    torch.manual_seed(0)
    events = make_events()
    seen, held_out = events[:, HELD_OUT:], events[:, :HELD_OUT]
    users = torch.arange(USERS).repeat_interleave(seen.shape[1])
    items = torch.from_numpy(np.ascontiguousarray(seen)).flatten()
    counts = torch.bincount(items, minlength=ITEMS).double()
    # Chance that an item is among a batch's columns, as a target or as a uniform negative.
    logq = (1 - (1 - 1 / ITEMS) ** NEGATIVES * torch.exp(-BATCH * counts / counts.sum())).log()

    towers = Towers()
    dense = torch.optim.Adam(towers.parameters(), lr=0.01)  # the temperature alone
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(items)).split(BATCH):
            drawn = torch.cat([items[batch], torch.randint(0, ITEMS, (NEGATIVES,))])
            columns, place = drawn.unique(return_inverse=True)
            loss = towers.loss(users[batch], columns, place[:len(batch)], logq[columns].float())
            dense.zero_grad()
            loss.backward()  # the touched rows of both tables have been updated
            dense.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1}: loss {total / len(items):.4f}")

    best, _ = ht.topk(towers.tables.weight("user").numpy(), towers.tables.weight("item").numpy(),
                      k=20, exclude=seen)
    popular, _ = ht.topk(np.ones((USERS, 1)), counts[:, None].numpy(), k=20, exclude=seen)
    return recall(best, held_out), recall(popular, held_out)


if __name__ == "__main__":
    ours, popular = main()
    print(f"recall@20 {ours:.4f}, of the most popular items {popular:.4f}")
