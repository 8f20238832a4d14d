"""Embedding tables of hypertower against those of torch and FBGEMM: lookup, and what follows it in
a step of training, backward pass and optimizer; and that against the bytes that it must move.

torch's way is nn.EmbeddingBag(sparse=True) with optim.Adagrad, for several tables one after the
other; it has no row-wise Adagrad, so ours is timed with both. FBGEMM (CPU) has all tables in one
call and fuses row-wise Adagrad, as we do. "huge pages": tables of both on them; "as it comes": the
peer's on the pages that it takes. Every answer is compared on the first batch.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from common import ROOT, Suite, time_pair
from embedding.libraries import EPS, LR, Fbgemm, Hypertower, Torch, close, stepped_alike
from embedding.workload import Shape, Workload
from floors import Floors

QUICK = [Shape("one", 1, 100_000, 64, 2048, 20), Shape("T=26", 26, 5_000, 32, 256, 10)]
CPU = [Shape("one", 1, 1_000_000, 128, 4096, 20), Shape("W1", 32, 100_000, 128, 512, 20),
       Shape("W1b", 32, 100_000, 128, 4096, 20), Shape("W2, scaled", 1, 1_000_000, 256, 8192, 64),
       Shape("T=26", 26, 100_000, 64, 2048, 10), Shape("T=100", 100, 10_000, 32, 512, 10)]
CUDA = [Shape("one", 1, 1_000_000, 128, 8192, 20), Shape("T=26", 26, 100_000, 64, 2048, 10),
        Shape("large", 1, 10_000_000, 128, 65_536, 20)]
PARTS = ROOT / "build" / "release" / "scripts" / "benchmarks" / "hypertower_embedding_parts"
ALPHAS = (0, 1.05, 1.15)
OPTIMIZERS = ("sgd", "rowwise_adagrad", "adagrad", "adam")


def measure_lookup(suite: Suite, w: Workload, has_fbgemm: bool) -> None:
    ours = Hypertower(w)
    ways = [("E3", "huge pages", True)]
    if suite.device == "cpu":
        ways.append(("E3b", "as it comes", False))
    for row_id, named, huge in ways:
        for peer, library in (("torch", Torch), ("fbgemm", Fbgemm)):
            if library is Fbgemm and not has_fbgemm:
                continue
            theirs = library(w, ours.rows(), huge)
            ours = Hypertower(w)  # both begin with the first batch
            suite.speed_up(row_id, {**w.case, "op": "forward", "pages": named, "peer": peer},
                           ours.look_up, theirs.look_up, close)
            del theirs
            gc.collect()


def measure_step(suite: Suite, w: Workload, has_fbgemm: bool) -> None:
    """Answers of whole steps are compared; what follows the lookup is timed."""
    case = {**w.case, "op": "backward, optimizer"}

    def measure(optimizer: str, ours: Hypertower, peer: str, theirs: Torch | Fbgemm,
                check: Callable[[Any, Any], None]) -> None:
        suite.speed_up("E4", {**case, "optimizer": optimizer, "peer": peer}, ours.step, theirs.step,
                       check, (ours.backward, theirs.backward))

    ours = Hypertower(w, "adagrad")
    theirs = Torch(w, ours.rows(), True)
    measure("adagrad", ours, "torch", theirs, stepped_alike)
    ours = Hypertower(w)
    check_rowwise(w, ours)
    # Another rule, so the two answers differ: ours was compared just now.
    measure("rowwise_adagrad against adagrad", ours, "torch", theirs, lambda *_: None)
    del theirs
    gc.collect()
    if has_fbgemm:
        ours = Hypertower(w)
        measure("rowwise_adagrad", ours, "fbgemm", Fbgemm(w, ours.rows(), True), stepped_alike)


def check_rowwise(w: Workload, ours: Hypertower) -> None:
    """A first step: the state of a row is its mean squared gradient."""
    name = w.names[0]
    before = ours.rows()[name].clone()
    after = ours.step()[name]
    gradient = torch.zeros_like(before).index_add_(
        0, w.batches[0][name], w.gradient.repeat_interleave(w.offsets.diff(), 0))
    rate = LR / (gradient.square().mean(1, keepdim=True).sqrt() + EPS)
    torch.testing.assert_close(after, before - rate * gradient, rtol=1e-4, atol=1e-5)


def backward_seconds(suite: Suite, w: Workload, optimizer: str) -> float:
    """Median of the backward pass alone: plan, sums and steps."""
    ours = Hypertower(w, optimizer)
    times: list[float] = []
    end = time.perf_counter() + suite.seconds
    while len(times) < 5 or time.perf_counter() < end:
        backward = ours.backward()
        start = time.perf_counter()
        backward()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def measure_floor(suite: Suite, shape: Shape) -> None:
    """A backward pass over its floor and over that of other ids, and the optimizers compared."""
    floors = Floors(torch.get_num_threads())
    seconds: dict[float, float] = {}
    for alpha in (*ALPHAS, float("inf")):
        w = Workload(shape, alpha, suite.device)
        before = floors.measure().read_wall
        seconds[alpha] = backward_seconds(suite, w, "rowwise_adagrad")
        rate = max(before, floors.measure().read_wall)
        case = {**w.case, "op": "backward, optimizer"}
        if alpha in ALPHAS:
            floor = w.step_bytes() / rate
            suite.add("E4", {**case, "what": "time over floor", "optimizer": "rowwise_adagrad"},
                      seconds[alpha] / floor, "x", "lower", False, seconds[alpha],
                      floor_seconds=floor)
        if alpha in (1.15, float("inf")):
            suite.add("R6", {**case, "what": "time over uniform"}, seconds[alpha] / seconds[0],
                      "x", "lower", False, seconds[alpha])
    w = Workload(shape, 0, suite.device)
    times = {o: backward_seconds(suite, w, o) for o in OPTIMIZERS}
    slowest, fastest = max(times, key=times.__getitem__), min(times, key=times.__getitem__)
    suite.add("E4", {**w.case, "op": "backward, optimizer", "what": "slowest over fastest",
                     "slowest": slowest, "fastest": fastest},
              times[slowest] / times[fastest], "x", "lower", False, times[slowest])


def measure_dynamic(suite: Suite, shape: Shape) -> None:
    """A step on ids that a table of ids knows, over one on row numbers."""
    for alpha in (0, 1.05):
        w = Workload(shape, alpha, suite.device)
        static, dynamic = Hypertower(w), Hypertower(w, dynamic=True)
        for _ in w.batches:  # every id gets its row
            dynamic.step()
        seconds, static_seconds = time_pair(dynamic.step, static.step, suite.device, suite.seconds)
        suite.add("H1", {**w.case, "op": "forward, backward, optimizer",
                         "what": "dynamic over static", "optimizer": "rowwise_adagrad"},
                  seconds / static_seconds, "x", "lower", False, seconds, static_seconds)


def measure_parts(suite: Suite) -> None:
    """What embedding_parts.cpp measures; it says what each is."""
    threads = torch.get_num_threads()
    options = ["--quick"] if suite.quick else []
    out = subprocess.run([PARTS, str(threads), *options], check=True, stdout=subprocess.PIPE,
                         text=True).stdout
    for row in map(json.loads, out.splitlines()):
        better = "higher" if row["id"] == "H1" else "lower"
        unit = "bytes" if row["id"] == "R14" else "x"
        suite.add(row["id"], {"what": "part", "device": suite.device}, row["value"], unit, better,
                  row["checked"], row["seconds"])


def main() -> None:
    suite = Suite(__doc__ or "")
    torch.manual_seed(1)
    has_fbgemm = suite.device == "cpu" and importlib.util.find_spec("fbgemm_gpu") is not None
    if suite.device == "cpu" and not has_fbgemm:
        suite.add("E4", {"peer": "fbgemm", "what": "not installed here"}, None, "x", "higher",
                  False)
    shapes = QUICK if suite.quick else CPU if suite.device == "cpu" else CUDA
    if suite.device == "cpu":
        measure_floor(suite, shapes[0])
        measure_parts(suite)
    measure_dynamic(suite, shapes[0])
    for shape in shapes:
        for alpha in ALPHAS:
            w = Workload(shape, alpha, suite.device)
            measure_lookup(suite, w, has_fbgemm)
            measure_step(suite, w, has_fbgemm)
            del w
            gc.collect()


if __name__ == "__main__":
    main()
