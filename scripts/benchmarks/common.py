"""What every benchmark shares: options, timing of two programs side by side, rows, the machine.

A row is {"id", "case", "value", "unit", "better", "checked", "seconds", "peer_seconds",
"floor_seconds", "machine", "commit"}; `checked` says that the answer was compared before timing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]


def machine(device: str) -> str:
    """Processor and number of cores, and the GPU where one was used."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown CPU")
    text = f"{cpu}, {len(os.sched_getaffinity(0))} cores"
    if device == "cuda":
        import torch

        text = f"{torch.cuda.get_device_name()}, {text}"
    return text


def commit() -> str:
    """Short hash of the checkout, with a plus where tracked files outside docs/ differ from it.
    HYPERTOWER_COMMIT names that of a copy that git does not know, such as the one on a machine that
    has the GPU."""
    if named := os.environ.get("HYPERTOWER_COMMIT"):
        return named

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True,
                              check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


WARM_SECONDS = 0.01  # how long threads of OpenMP may spin on after their work


def time_pair(ours: Callable[[], Any], peer: Callable[[], Any], device: str,
              seconds: float, *, prepare: bool = False) -> tuple[float, float]:
    """Median seconds of each, measured in turns so that a busy neighbour disturbs both alike. What
    a turn does first does not count, a call at least: it finds the other's data in the caches and
    the other's threads awake. `prepare`: what the two return is timed, not they.
    """
    if device == "cuda":
        import torch

        synchronize = torch.cuda.synchronize
    else:
        def synchronize() -> None:
            pass

    def once(function: Callable[[], Any]) -> float:
        if prepare:
            function = function()
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        return time.perf_counter() - start

    once(ours), once(peer)  # first calls allocate and choose code paths
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while len(times[0]) < 6 or time.perf_counter() < end:
        for function, taken in zip((ours, peer), times, strict=True):
            begun = time.perf_counter()
            once(function)
            while time.perf_counter() < begun + WARM_SECONDS:
                once(function)
            taken += [once(function) for _ in range(3)]
    return median(times[0]), median(times[1])


class Suite:
    """Options of one run, and the rows it has made."""

    def __init__(self, description: str, **more_options: str | dict[str, Any]) -> None:
        """`more_options`: the help of an option, or the arguments of `add_argument`."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--quick", action="store_true", help="small shapes, less time a case")
        parser.add_argument("--json", type=Path, help="also write the rows to this file")
        parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
        for option, arguments in more_options.items():
            parser.add_argument(f"--{option}", **({"help": arguments} if isinstance(arguments, str)
                                                  else arguments))
        options = parser.parse_args()
        self.options = options
        self.quick: bool = options.quick
        self.device: str = options.device
        self.seconds = 0.5 if self.quick else 1.0 if self.device == "cuda" else 3.0
        self._file: Path | None = options.json
        self._rows: list[Row] = []
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                sys.exit("bench: --device cuda needs a GPU that torch can see; there is none")
        self._machine, self._commit = machine(self.device), commit()

    def speed_up(self, row_id: str, case: Row, ours: Callable[[], Any], peer: Callable[[], Any],
                 check: Callable[[Any, Any], None],
                 timed: tuple[Callable[[], Any], Callable[[], Any]] | None = None) -> None:
        """Compares the two answers, then times both; `check` raises where the answers differ.
        `timed`: what return the calls that are timed instead."""
        check(ours(), peer())
        seconds, peer_seconds = time_pair(*(timed or (ours, peer)), self.device, self.seconds,
                                          prepare=timed is not None)
        self.add(row_id, {**case, "what": "time", "device": self.device}, peer_seconds / seconds,
                 "x", "higher", True, seconds, peer_seconds)

    def add(self, row_id: str, case: Row, value: float | None, unit: str, better: str,
            checked: bool, seconds: float | None = None, peer_seconds: float | None = None,
            floor_seconds: float | None = None) -> None:
        """A row; the value None says that it could not be measured, and the case why."""
        row = {"id": row_id, "case": case, "value": value, "unit": unit, "better": better,
               "checked": checked, "seconds": seconds, "peer_seconds": peer_seconds,
               "floor_seconds": floor_seconds, "machine": self._machine, "commit": self._commit}
        self._rows.append(row)
        shape = " ".join(f"{k}={v}" for k, v in case.items())
        against = f"  ({seconds:.3g} s against {peer_seconds:.3g} s)" if peer_seconds else ""
        figure = "-" if value is None else f"{value:.4g}"
        print(f"{row_id:4} {figure:>10} {unit:4} {shape}{against}", flush=True)
        if self._file:  # at once, so that a long run that is stopped leaves its rows
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._rows, indent=1) + "\n")
