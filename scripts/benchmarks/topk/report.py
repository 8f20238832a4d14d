"""Rows of `scripts/bench topk` for people: a page with the scoreboard, a picture of the peers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from chart import bars

from .cases import PEERS
from .scores import target

Row = dict[str, Any]  # as in the JSON file

_WHAT = {
    "S5": "time with a filter / without",
    "S6": "scratch memory / that of all scores",
    "S8": "queries that differ from the oracle in any bit",
    "S9": "time / floor of the machine",
    "S10": "time of the peer / ours",
    "S12": "time of one thread / of all",
    "S13": "time for each item of many items / of few",
}

_MASKS = {"random": "random, one for all queries", "range": "a range of ids",
          "own": "random, one for each query, and 1,000 ids left out"}

_METHOD = """\
Every answer was compared before it was timed: ours to the last bit with float64 scores of all
items, the peers within single precision. Each competitor runs in a process of its own; they take
turns, and a figure is the median over the turns. `clock`: `wall`, or `cpu` = processor time divided
by the threads, which other programs on the machine disturb less but which, with several threads,
tells work and not speed; both are shown where they differ by more than a tenth. The floor is the
larger of two times: all int8 scores at the rate of dot products in registers, all int8 items at
the rate of reading memory; both rates are measured in our process just before and after each turn,
with the same threads; of several processes the best counts."""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _size(value: float) -> str:
    for power, letter in ((1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:g}{letter}"
    return f"{value:g}"


def _shape(case: Row) -> str:
    """A case in words, without what its column says."""
    if "N" not in case:
        return f"{case['what']}: {case['cases']} cases, {case['queries']} queries"
    text = f"{case['data']} {_size(case['N'])} x {case['D']}, B={case['B']}, K={case['K']}"
    if case["filter"]:
        text += f", {100 * case['filter']:g} % filtered out, mask: {_MASKS[case['mask']]}"
    return text


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g}"


def _scoreboard(rows: list[Row]) -> Iterator[list[str]]:
    """Rows that have a target, and mismatches always."""
    for r in rows:
        goal = target(r)
        if goal is None:
            continue
        case = r["case"]
        sign = "≥" if r["better"] == "higher" else "≤"
        against = r["peer_seconds"] or r["floor_seconds"]
        yield [r["id"], _WHAT[r["id"]], case.get("peer", ""), _shape(case),
               str(case.get("threads", "")), case.get("clock", ""), _milliseconds(r["seconds"]),
               _milliseconds(against), f"{sign} {goal.bound:g}", f"**{_number(r['value'])}**",
               "met" if goal.met(r) else "missed"]


def _speed_ups(rows: list[Row]) -> Iterator[list[str]]:
    """One line a case and clock, one column a peer."""
    lines: dict[tuple[str, int, str], dict[str, Row]] = {}
    for r in rows:
        if r["id"] == "S10" and r["value"] is not None:
            case = r["case"]
            key = _shape(case), case["threads"], case["clock"]
            lines.setdefault(key, {})[case["peer"]] = r
    for (shape, threads, clock), by_peer in lines.items():
        ours = _milliseconds(next(iter(by_peer.values()))["seconds"])
        cells = [f"{_number(found['value'])}x ({_milliseconds(found['peer_seconds'])})"
                 if (found := by_peer.get(peer)) else "-" for peer in PEERS]
        yield [shape, str(threads), clock, ours, *cells]


def _floors(rows: list[Row]) -> Iterator[list[str]]:
    for r in rows:
        if r["id"] == "S9" and r["value"] is not None:
            case = r["case"]
            yield [_shape(case), str(case["threads"]), case["clock"],
                   _milliseconds(r["seconds"]), _milliseconds(r["floor_seconds"]),
                   _number(r["value"])]


def _libraries(rows: list[Row]) -> Iterator[str]:
    """What each peer was; the BLAS and its core type decide over faiss."""
    seen = set()
    for r in rows:
        case = r["case"]
        if r["id"] == "S10" and "version" in case and case["peer"] not in seen:
            seen.add(case["peer"])
            blas = f" with {case['blas']}" if "blas" in case else ""
            yield f"{case['peer']} {case['version']}{blas}"


def _left_out(rows: list[Row]) -> Iterator[str]:
    """Why a figure is missing, each reason once."""
    reasons: dict[str, list[str]] = {}
    for r in rows:
        if "skipped" in r["case"]:
            name = f"{r['case'].get('peer', r['id'])}: {r['case']['skipped']}"
            reasons.setdefault(name, []).append(_shape(r["case"]))
    for name, shapes in reasons.items():
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        yield f"- {name} ({shapes[0]}{more})"


def page(rows: list[Row], command: str, picture: str) -> str:
    """The Markdown page."""
    parts = [
        "# Exact top-K on the CPU",
        f"Machine: {rows[0]['machine']}. Commit {rows[0]['commit']}.\nCommand: `{command}`.\n"
        f"Peers: {'; '.join(_libraries(rows)) or 'none'}.",
        _METHOD,
        f"![speed-up over each peer]({picture})",
        "## Scoreboard",
        _table(["id", "figure", "peer", "case", "threads", "clock", "ours ms", "against ms",
                "target", "reached", ""], _scoreboard(rows)),
        "## Speed-up over each peer",
        "In brackets the peer's milliseconds.",
        _table(["case", "threads", "clock", "ours ms", *PEERS], _speed_ups(rows)),
        "## Time over floor",
        _table(["case", "threads", "clock", "ms", "floor ms", "ratio"], _floors(rows)),
    ]
    left_out = list(_left_out(rows))
    if left_out:
        parts += ["## Not measured", "\n".join(left_out)]
    return "\n\n".join(parts) + "\n"


def picture(rows: list[Row]) -> str:
    """Speed-ups by batch for the largest unfiltered gaussian case with the most threads."""
    plain = [r for r in rows if r["id"] == "S10" and r["value"] is not None
             and r["case"]["data"] == "gaussian" and not r["case"]["filter"]]
    if not plain:
        return bars("no peer was measured", [], {})

    def shape(r: Row) -> tuple[int, ...]:
        case = r["case"]
        return case["threads"], case["N"], case["D"], -abs(case["K"] - 100)

    largest = max(map(shape, plain))
    chosen = [r for r in plain if shape(r) == largest]
    case = chosen[0]["case"]
    batches = sorted({r["case"]["B"] for r in chosen})
    series: dict[str, list[float | None]] = {}
    for peer in PEERS:
        # The wall clock where both were written.
        found = {r["case"]["B"]: r["value"] for r in
                 sorted(chosen, key=lambda r: r["case"]["clock"]) if r["case"]["peer"] == peer}
        if found:
            series[peer] = [found.get(b) for b in batches]
    title = (f"Speed-up over each peer: {_size(case['N'])} x {case['D']}, K={case['K']}, "
             f"{case['threads']} threads")
    return bars(title, [f"{b} queries" if b > 1 else "1 query" for b in batches], series)
