"""From measurements to rows: the figures of the scoreboard, and what they should reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .cases import OURS, Case
from .measure import Measurement

Row = dict[str, Any]  # the arguments of common.Suite.add
CLOCKS_DIFFER = 1.1


def row(row_id: str, case: Row, value: float | None, unit: str, better: str, checked: bool,
        **seconds: float | None) -> Row:
    return {"row_id": row_id, "case": case, "value": value, "unit": unit, "better": better,
            "checked": checked, **seconds}


def clocks(case: Case, measurements: Iterable[Measurement]) -> list[str]:
    """The clock that counts, and the other one where the two disagree.

    One thread: processor time, which a busy neighbour disturbs least. Several: the wall clock,
    because threads that wait for one another, or are not used, cost time and no work.
    """
    first, second = ("cpu", "wall") if case.threads == 1 else ("wall", "cpu")
    differ = any(max(a, b) > CLOCKS_DIFFER * min(a, b) for m in measurements if m.slots
                 for a, b in [(m.seconds(first), m.seconds(second))])
    return [first, second] if differ else [first]


def timed(case: Case, clock: str) -> Row:
    """Keys that name a figure: `work` is processor time of several threads, and no speed."""
    what = "work" if clock == "cpu" and case.threads > 1 else "time"
    return {"what": what, "clock": clock}


def _skipped(row_id: str, m: Measurement, unit: str, better: str) -> Row:
    return row(row_id, {**m.case.keys(), "peer": m.competitor, "skipped": m.skipped}, None, unit,
               better, False)


def floor_rows(processes: Sequence[Sequence[Measurement]]) -> Iterator[Row]:
    """S9: time over floor; of several processes the best, which the neighbours left alone most."""
    for same_case in zip(*processes, strict=True):
        measured = [m for m in same_case if m.slots and m.floor("wall") is not None]
        if not measured:
            yield _skipped("S9", same_case[0], "x", "lower")
            continue
        for clock in clocks(measured[0].case, measured):
            best = min(measured, key=lambda m, c=clock: m.ratio(c))
            case = {**best.case.keys(), **timed(best.case, clock), "processes": len(measured)}
            yield row("S9", case, best.ratio(clock), "x", "lower", best.checked,
                      seconds=best.seconds(clock), floor_seconds=best.floor(clock))


def peer_rows(measurements: Sequence[Measurement]) -> Iterator[Row]:
    """S10: time of a peer over ours, both from the same turns."""
    ours: Measurement | None = None
    for m in measurements:
        if m.competitor == OURS:
            ours = m
            if not m.slots:
                yield _skipped("S10", m, "x", "higher")
            continue
        if not m.slots:
            yield _skipped("S10", m, "x", "higher")
        elif ours is not None and ours.case == m.case and ours.slots:
            for clock in clocks(m.case, (ours, m)):
                case = {**m.case.keys(), "peer": m.competitor, **m.about,
                        **timed(m.case, clock)}
                yield row("S10", case, m.seconds(clock) / ours.seconds(clock), "x", "higher",
                          m.checked and ours.checked, seconds=ours.seconds(clock),
                          peer_seconds=m.seconds(clock), floor_seconds=ours.floor(clock))


def _against(row_id: str, m: Measurement, other: Measurement, against: str, better: str,
             figure: Callable[[float, float], float]) -> Iterator[Row]:
    """`figure` of our seconds in one case and in another, which `against` names."""
    if not m.slots or not other.slots:
        yield _skipped(row_id, m if not m.slots else other, "x", better)
        return
    for clock in clocks(m.case, (m, other)):
        mine, theirs = m.seconds(clock), other.seconds(clock)
        case = {**m.case.keys(), "against": against, **timed(m.case, clock)}
        yield row(row_id, case, figure(mine, theirs), "x", better, m.checked and other.checked,
                  seconds=mine, peer_seconds=theirs)


def filter_rows(measurements: Sequence[Measurement]) -> Iterator[Row]:
    """S5: a filtered search over the first one, which has no filter."""
    plain, *filtered = measurements
    for m in filtered:
        yield from _against("S5", m, plain, "no filter", "lower", lambda mine, its: mine / its)


def thread_rows(measurements: Sequence[Measurement]) -> Iterator[Row]:
    """S12: one thread over all threads; by the wall clock, since the work is the same."""
    one = {m.case.batch: m for m in measurements if m.case.threads == 1}
    for m in measurements:
        if m.case.threads > 1:
            rows = _against("S12", m, one[m.case.batch], "1 thread", "higher",
                            lambda mine, its: its / mine)
            yield from (r for r in rows if r["case"].get("what") != "work")


def growth_rows(measurements: Sequence[Measurement]) -> Iterator[Row]:
    """S13: time for each item of the larger catalogue over that of the smaller."""
    least = min(m.case.rows for m in measurements)
    few = {m.case.batch: m for m in measurements if m.case.rows == least}
    for m in measurements:
        if m.case.rows > least:
            yield from _against("S13", m, few[m.case.batch], f"N={least}", "lower",
                                lambda mine, its, n=m.case.rows: mine / n * least / its)


def memory_row(case: Case, scratch: int, checked: bool) -> Row:
    """S6: bytes beyond the index and the answer, over those of all scores."""
    return row("S6", {**case.keys(), "what": "memory", "bytes": scratch},
               scratch / (4 * case.batch * case.rows), "x", "lower", checked)


def mismatch_row(measurements: Sequence[Measurement], what: str) -> Row:
    """S8: queries whose ids or scores differ from the oracle in any bit."""
    ours = [m for m in measurements if m.competitor == OURS]
    failed = [m for m in ours if not m.compared]
    case: Row = {"what": what, "cases": len(ours), "queries": sum(m.compared for m in ours)}
    if failed:
        case["skipped"] = failed[0].skipped
    wrong = next((f"{m.case.data}: {m.skipped}" for m in ours if m.mismatches), None)
    if wrong:
        case["first"] = wrong
    value = None if failed else float(sum(m.mismatches for m in ours))
    return row("S8", case, value, "queries", "lower", not failed)


@dataclass(frozen=True)
class Target:
    """What a figure should reach where the case has these keys."""

    row_id: str
    bound: float
    keys: Row

    def fits(self, r: Row) -> bool:
        return r["id"] == self.row_id and all(r["case"].get(k) == v for k, v in self.keys.items())

    def met(self, r: Row) -> bool:
        return r["value"] >= self.bound if r["better"] == "higher" else r["value"] <= self.bound


_BOARD = {"N": 1_000_000, "D": 128, "data": "gaussian", "what": "time"}


def _targets() -> Iterator[Target]:
    shape = {**_BOARD, "filter": 0.0}
    for share, bound in ((0.9, 1.05), (0.99, 1.0), (0.9999, 0.2)):
        yield Target("S5", bound, {**_BOARD, "filter": share})
    yield Target("S6", 0.01, {"N": 1_000_000, "B": 1024})
    yield Target("S8", 0.0, {})
    for batch, bound in ((1, 1.25), (32, 1.6), (256, 1.5)):
        yield Target("S9", bound, {**shape, "B": batch, "K": 100})
    for batch, bound in ((1, 1.3), (32, 2.2), (256, 2.2)):
        yield Target("S9", bound, {**shape, "B": batch, "K": 1000})
    yield Target("S10", 40.0, {**shape, "B": 32, "peer": "faiss-default"})
    for batch, bound in ((1, 4.0), (32, 7.0), (256, 4.5)):
        yield Target("S10", bound, {**shape, "B": batch, "peer": "faiss-best"})
    for batch in (32, 256):
        yield Target("S10", 20.0, {**_BOARD, "filter": 0.5, "mask": "random", "B": batch,
                                   "peer": "faiss-best"})
    yield Target("S12", 1.8, {"N": 1_000_000, "threads": 2, "what": "time"})
    yield Target("S13", 1.15, {"N": 10_000_000, "what": "time"})


TARGETS = tuple(_targets())


def target(r: Row) -> Target | None:
    """The target of a row of the JSON file, if it has one and was measured."""
    if r["value"] is None or math.isnan(r["value"]):
        return None
    return next((t for t in TARGETS if t.fits(r)), None)
