"""The streamed softmax loss against torch's cross entropy over stored logits.

L2: all columns of a catalogue; against torch as people write it, and against torch at its best:
the scale folded into the queries, and an allocator that keeps its pages, so that a gigabyte of
logits is not faulted in anew on every step. L3: positives of the batch and 8,192 sampled negatives.
Memory is what a process of its own grows by; loss and gradients are compared before anything is
timed.
"""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Suite

from hypertower import ops

SCALE = 10.0
Answer = tuple[torch.Tensor, ...]


def keep_pages() -> None:
    """Makes malloc (glibc) serve large arrays from the heap and never give it back."""
    libc = ctypes.CDLL(None)
    m_trim_threshold, m_mmap_max = -1, -4
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def unit_rows(rows: int, dim: int, device: str) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, dim, device=device)).requires_grad_()


class Case:
    """Queries, columns with their sampling probabilities, and the target of each query."""

    def __init__(self, batch: int, columns: int, dim: int, device: str) -> None:
        torch.manual_seed(1)
        self.q, self.c = unit_rows(batch, dim, device), unit_rows(columns, dim, device)
        self.target = torch.randint(columns, (batch,), device=device)
        self.logq = torch.log(torch.rand(columns, device=device) + 1e-3)
        self.text: dict[str, Any] = {"B": batch, "C": columns, "D": dim, "op": "forward+backward"}

    def _with_gradients(self, loss: torch.Tensor) -> Answer:
        return (loss.detach(), *torch.autograd.grad(loss.mean(), (self.q, self.c)))

    def ours(self) -> Answer:
        return self._with_gradients(
            ops.softmax_loss(self.q, self.c, self.target, scale=SCALE, logq=self.logq))

    def torch(self) -> Answer:
        logits = SCALE * (self.q @ self.c.T) - self.logq
        return self._with_gradients(
            torch.nn.functional.cross_entropy(logits, self.target, reduction="none"))

    def torch_folded(self) -> Answer:
        logits = torch.addmm(-self.logq, SCALE * self.q, self.c.T)
        return self._with_gradients(
            torch.nn.functional.cross_entropy(logits, self.target, reduction="none"))


def close(ours: Answer, peer: Answer) -> None:
    for a, b in zip(ours, peer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) * 1024


def _grown(shape: tuple[int, int, int], who: str, answer: Any) -> None:
    case = Case(*shape, "cpu")
    small = Case(8, 64, shape[2], "cpu")
    getattr(small, who)()  # loads libraries, starts threads
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_bytes("VmRSS")
    getattr(case, who)()
    answer.put(status_bytes("VmHWM") - before)


def memory_of(shape: tuple[int, int, int], who: str) -> float:
    """Bytes by which a process grows while it computes one loss and its gradients, without those of
    the gradients themselves."""
    spawn = multiprocessing.get_context("spawn")
    answer = spawn.Queue()
    process = spawn.Process(target=_grown, args=(shape, who, answer))
    process.start()
    grown = answer.get(timeout=600)
    process.join()
    batch, columns, dim = shape
    return max(0.0, grown - 4 * dim * (batch + columns))


def measure_memory(suite: Suite, shapes: list[tuple[int, int, int]]) -> None:
    for shape in shapes:
        ours, peer = memory_of(shape, "ours"), memory_of(shape, "torch")
        suite.add("L2", {**Case(8, 64, 8, "cpu").text, "B": shape[0], "C": shape[1], "D": shape[2],
                         "what": "memory", "peer": "torch", "MB": round(ours / 1e6, 1)},
                  ours / peer, "x", "lower", False)


def main() -> None:
    suite = Suite(__doc__ or "")
    cuda = suite.device == "cuda"
    whole = [(128, 5_000, 64)] if suite.quick else [
        *([(512, 20_000, 64), (512, 100_000, 64)] if cuda else []), (1024, 100_000, 64)]
    sampled = (128, 1_152, 64) if suite.quick else (1024, 9_216, 64)

    def compare(row_id: str, shape: tuple[int, int, int], peer: str,
                function: Callable[[Case], Answer]) -> None:
        case = Case(*shape, suite.device)
        suite.speed_up(row_id, {**case.text, "peer": peer}, case.ours, lambda: function(case),
                       close)

    for shape in whole:
        compare("L2", shape, "torch", Case.torch)
    compare("L3", sampled, "torch", Case.torch)
    if cuda:
        return
    measure_memory(suite, [(whole[0][0], columns, 64) for columns in (20_000, 100_000)])
    keep_pages()
    for shape in whole:
        compare("L2", shape, "torch, folded, no page faults", Case.torch_folded)
    compare("L3", sampled, "torch, folded, no page faults", Case.torch_folded)


if __name__ == "__main__":
    main()
