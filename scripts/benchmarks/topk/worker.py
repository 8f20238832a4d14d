"""One competitor in a process of its own: `python -m topk.worker NAME THREADS`.

Reads one JSON object a line, answers each with one line: {"error": ...} where it fails,
{"unable": ...} where the competitor cannot do the case. Every command carries the whole case, so a
worker that was started again needs no history:

    {"do": "load", "items": PATH}                  -> {"seconds"}
    {"do": "answer", case, paths, "rows", "out"}   -> {"seconds", "about"}, the answers in `out`
    {"do": "time", case, paths, "seconds", "floors"} -> {"wall", "cpu", "floors"}
    {"do": "memory", case, paths}                  -> {"bytes"}: growth of the process in one search
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .competitors import Answer, Inputs, Unable, competitor


def _status(field: str) -> int:
    """A size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(field)


class Worker:
    def __init__(self, name: str, threads: int) -> None:
        self._threads = threads
        self._competitor = competitor(name, threads)
        self._floors: Any = None
        self._prepared: dict[str, tuple[Callable[[], Answer], dict[str, Any]]] = {}

    def handle(self, message: dict[str, Any]) -> dict[str, Any]:
        return getattr(self, message["do"])(message)

    def load(self, message: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        self._competitor.load(np.load(message["items"], mmap_mode="r"))
        return {"seconds": time.perf_counter() - start}

    def _search(self, message: dict[str, Any]) -> tuple[Callable[[], Answer], dict[str, Any]]:
        """The search of the case, prepared at its first use."""
        key = json.dumps(message["case"], sort_keys=True)
        if key not in self._prepared:
            case = message["case"]
            paths = message["paths"]
            queries = np.load(paths["queries"], mmap_mode="r")[:case["batch"]]
            mask, exclude = (None if paths[p] is None else np.load(paths[p])
                             for p in ("mask", "exclude"))
            search = self._competitor.prepare(
                Inputs(np.array(queries), case["k"], mask, exclude))
            self._prepared[key] = search, dict(self._competitor.about)
        return self._prepared[key]

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        search, about = self._search(message)
        start = time.perf_counter()
        ids, scores = search()
        seconds = time.perf_counter() - start
        rows = message["rows"]
        np.savez(message["out"], ids=ids[rows], scores=scores[rows])
        return {"seconds": seconds, "about": about}

    def time(self, message: dict[str, Any]) -> dict[str, Any]:
        """Searches for the seconds given, at least once, between two looks at the floors."""
        search, _ = self._search(message)
        floors = [self._rates()] if message["floors"] else []
        wall: list[float] = []
        cpu: list[float] = []
        end = time.perf_counter() + message["seconds"]
        while not wall or time.perf_counter() + wall[-1] / 2 < end:
            start, cpu_start = time.perf_counter(), time.process_time()
            search()
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        if message["floors"]:
            floors.append(self._rates())
        return {"wall": wall, "cpu": cpu, "floors": floors}

    def _rates(self) -> list[float]:
        if self._floors is None:
            from floors import Floors

            self._floors = Floors(self._threads)
        return list(self._floors.measure())

    def memory(self, message: dict[str, Any]) -> dict[str, Any]:
        search, _ = self._search(message)
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # high-water mark = what is used now
        answer = search()
        kept = sum(a.nbytes for a in answer)
        return {"bytes": max(0, _status("VmHWM") - before - kept)}


def main() -> None:
    # The answers get a pipe of their own: what libraries print must not be taken for one.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(reply: dict[str, Any]) -> None:
        print(json.dumps(reply), file=answers, flush=True)

    worker: Worker | None = None
    for line in sys.stdin:
        try:
            if worker is None:
                worker = Worker(sys.argv[1], int(sys.argv[2]))
            say(worker.handle(json.loads(line)))
        except Unable as e:
            say({"unable": str(e)})
        except Exception as e:  # the driver puts the sentence into a row
            say({"error": f"{type(e).__name__}: {e}"})


if __name__ == "__main__":
    main()
