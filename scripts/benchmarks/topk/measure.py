"""Cases times competitors: compare all answers, then time in turns.

Turns, because the machine is never alone: one slot of each competitor for each case, then the next
round, so that a busy moment falls on all of them and the median over the rounds leaves it out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from floors import Rates, floor_seconds

from .cases import OURS, Case
from .competitors import Unable
from .data import Dataset
from .oracle import Oracle, disagreement, mismatch
from .pool import Failed, Worker

ROUNDS = 5


@dataclass(frozen=True)
class Slot:
    """Medians of one turn; `cpu` is processor time divided by the threads."""

    wall: float
    cpu: float
    floor_wall: float | None = None
    floor_cpu: float | None = None

    def seconds(self, clock: str) -> float:
        return self.wall if clock == "wall" else self.cpu

    def floor(self, clock: str) -> float | None:
        return self.floor_wall if clock == "wall" else self.floor_cpu


@dataclass
class Measurement:
    """What one competitor did with one case; `skipped` says why there are no slots."""

    case: Case
    competitor: str
    about: dict[str, Any] = field(default_factory=dict)
    checked: bool = False
    compared: int = 0  # queries
    mismatches: int = 0
    skipped: str = ""
    slots: list[Slot] = field(default_factory=list)

    def seconds(self, clock: str) -> float:
        return median(s.seconds(clock) for s in self.slots)

    def floor(self, clock: str) -> float | None:
        floors = [f for s in self.slots if (f := s.floor(clock)) is not None]
        return median(floors) if floors else None

    def ratio(self, clock: str) -> float:
        """Time over floor, each slot by its own floor."""
        return median(s.seconds(clock) / f for s in self.slots
                      if (f := s.floor(clock)) is not None)


def say(text: str) -> None:
    """Progress, apart from the rows."""
    print(f"[bench topk] {text}", file=sys.stderr, flush=True)


def memory_available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/meminfo has no MemAvailable")


class Session:
    """Data and oracles of one run. `limit`: seconds that one search of a peer may take."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self.limit = folder, limit
        self._oracles: dict[Path, Oracle] = {}
        self._rates: dict[tuple[Any, ...], float] = {}  # seconds for a unit of work, last seen

    def oracle(self, dataset: Dataset) -> Oracle:
        if dataset.folder not in self._oracles:
            if len(self._oracles) > 1:  # large ones hold gigabytes
                self._oracles.clear()
            self._oracles[dataset.folder] = Oracle(
                np.load(dataset.items(), mmap_mode="r"), np.load(dataset.queries()))
        return self._oracles[dataset.folder]

    def measure(self, cases: Sequence[Case], competitors: Sequence[str], seconds: float,
                floors: bool = False) -> list[Measurement]:
        """All cases by all competitors; peers of large catalogues one after another, beside ours,
        where all of them together would not fit into memory."""
        largest = max(cases, key=lambda c: c.rows * c.dim)
        one = Dataset.of(self.folder, largest).bytes * len({c.threads for c in cases})
        groups: list[list[str]] = [list(competitors)]
        if one * 1.5 * len(competitors) > 0.7 * memory_available():
            groups = [[OURS, c] for c in competitors if c != OURS] or [[OURS]]
        done: list[Measurement] = []
        for group in groups:
            done += self._measure_group(cases, group, seconds, floors)
        return done

    def _measure_group(self, cases: Sequence[Case], competitors: Sequence[str], seconds: float,
                       floors: bool) -> list[Measurement]:
        workers: dict[tuple[Any, ...], Worker] = {}
        try:
            measurements = [Measurement(case, name) for case in cases for name in competitors]
            for m in measurements:
                self._compare(self._worker(workers, m), m)
            self._time(workers, [m for m in measurements if not m.skipped], seconds, floors)
            return measurements
        finally:
            for worker in workers.values():
                worker.end()

    def _worker(self, workers: dict[tuple[Any, ...], Worker], m: Measurement) -> Worker:
        """The process of a competitor for a data set and a number of threads."""
        key = (m.competitor, m.case.threads, m.case.data, m.case.rows, m.case.dim)
        if key not in workers:
            workers[key] = Worker(m.competitor, m.case.threads)
            workers[key].use(Dataset.of(self.folder, m.case).items())
        return workers[key]

    def message(self, do: str, case: Case, **more: Any) -> dict[str, Any]:
        dataset = Dataset.of(self.folder, case)
        files = {"queries": dataset.queries(), "mask": dataset.mask(case),
                 "exclude": dataset.exclude(case)}
        paths = {name: None if p is None else str(p) for name, p in files.items()}
        return {"do": do, "case": case.message(), "paths": paths, **more}

    def _compare(self, worker: Worker, m: Measurement) -> None:
        """Fills in `checked`, or why the case is not timed."""
        kind = (m.competitor, m.case.threads, m.case.filter)
        expected = self._rates.get(kind, 0.0) * m.case.work()
        if m.competitor != OURS and expected > self.limit:
            m.skipped = f"would take about {expected:.0f} s, the limit is {self.limit:g} s"
            return
        oracle = self.oracle(Dataset.of(self.folder, m.case))
        rows = oracle.rows(m.case.batch)
        out = self.folder / "answer.npz"
        try:
            # A peer that chooses its way tries a few before.
            reply = worker.ask(self.message("answer", m.case, rows=rows, out=str(out)),
                               8 * self.limit)
        except (Failed, Unable) as e:
            m.skipped = str(e)
            return
        self._rates[kind] = reply["seconds"] / m.case.work()
        m.about = reply["about"]
        self._check(m, oracle, rows, np.load(out))
        if m.competitor != OURS and reply["seconds"] > self.limit and not m.skipped:
            m.skipped = f"took {reply['seconds']:.0f} s, the limit is {self.limit:g} s"

    def _check(self, m: Measurement, oracle: Oracle, rows: list[int], got: Any) -> None:
        dataset = Dataset.of(self.folder, m.case)
        mask_path, exclude_path = dataset.mask(m.case), dataset.exclude(m.case)
        mask = None if mask_path is None else np.load(mask_path, mmap_mode="r")
        exclude = None if exclude_path is None else np.load(exclude_path)
        differs = mismatch if m.competitor == OURS else disagreement
        for place, row in enumerate(rows):
            allowed = mask[row] if mask is not None and mask.ndim == 2 else mask
            right = oracle.answer(row, m.case.k, allowed,
                                  None if exclude is None else exclude[row])
            found = got["ids"][place], got["scores"][place]
            wrong = differs(found, right)
            m.compared += 1
            if wrong:
                m.mismatches += 1
                m.skipped = f"wrong answer of query {row}: {wrong}"
        m.checked = not m.skipped

    def _time(self, workers: dict[tuple[Any, ...], Worker], measurements: list[Measurement],
              seconds: float, floors: bool) -> None:
        spent = dict.fromkeys(range(len(measurements)), 0.0)
        for _ in range(ROUNDS):
            for number, m in enumerate(measurements):
                if m.skipped or spent[number] > seconds:
                    continue
                start = time.monotonic()
                message = self.message("time", m.case, seconds=seconds / ROUNDS,
                                       floors=floors and m.competitor == OURS)
                try:
                    m.slots.append(self._slot(m, self._worker(workers, m).ask(
                        message, 600 + self.limit)))
                except (Failed, Unable) as e:
                    m.skipped, m.slots = str(e), []
                spent[number] += time.monotonic() - start

    @staticmethod
    def _slot(m: Measurement, reply: dict[str, Any]) -> Slot:
        wall, cpu = median(reply["wall"]), median(reply["cpu"]) / m.case.threads
        if not reply["floors"]:
            return Slot(wall, cpu)
        rates = Rates(*np.mean(reply["floors"], axis=0))
        return Slot(wall, cpu, *(floor_seconds(rates, clock, m.case.rows, m.case.dim, m.case.batch)
                                 for clock in ("wall", "cpu")))

    def scratch(self, case: Case) -> int:
        """Bytes by which our process grows during its first search."""
        worker = Worker(OURS, case.threads)
        try:
            worker.use(Dataset.of(self.folder, case).items())
            return int(worker.ask(self.message("memory", case), 600)["bytes"])
        finally:
            worker.end()
