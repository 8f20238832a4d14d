"""Turns the rows of `scripts/bench embedding --json FILE` into a page and a picture beside it.

usage: python scripts/benchmarks/report_embedding.py docs/benchmarks/embedding.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chart import bars

Row = dict[str, Any]

FIGURES = {"E3": "lookup: the peer's time / ours, huge pages for both",
           "E3b": "lookup: the peer's time / ours, each as it comes",
           "E4": "training step: the peer's time / ours",
           "R6": "backward: time / that of uniform ids"}
METHOD = """\
Every answer was compared with the peer's on the first batch. The two are timed in turns, medians;
four batches of ids take turns so that no cache holds the next one's rows. A step is forward,
backward and optimizer. torch: `nn.EmbeddingBag(sparse=True)` and `optim.Adagrad`, which has no
row-wise form: there ours is timed with both. fbgemm: all tables in one call, fused row-wise
Adagrad. The floor of a backward pass is the gradient read once, each touched row and the cache line
of its state read and written once, and what a radix sort of the ids moves, at the rate of reading
memory, measured before and after by all threads."""


def target(row: Row) -> tuple[str, float] | None:
    """The bound that a row is held against; none for shapes that are there to be watched."""
    case, row_id = row["case"], row["id"]
    what, peer = case.get("what"), case.get("peer")
    if what in ("time over floor", "slowest over fastest"):
        return "≤", 1.3
    if row_id == "R6":
        return "≤", 1.0 if case["data"] == "one row" else 0.8
    if row_id == "E4":
        return "≥", 15.0 if peer == "torch" else 5.0
    skewed = case["data"] != "uniform"
    if row_id == "E3b":
        return "≥", 1.5 if peer == "fbgemm" else 1.8 if skewed else 1.5
    if row_id == "E3":
        return "≥", ((1.5 if skewed else 1.15) if peer == "fbgemm" else 1.3 if skewed else 0.95)
    return None


def figure_of(row: Row) -> str:
    what = row["case"].get("what")
    return f"backward: {what}" if what and what.startswith(("time over floor", "slowest")) else (
        FIGURES[row["id"]])


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.3g}"


def page(rows: list[Row], file: Path) -> str:
    out = ["# Embedding tables on the CPU", "",
           f"Machine: {rows[0]['machine']}. Commit {rows[0]['commit']}. Command: "
           f"`scripts/bench embedding --json {file}`.", "", METHOD, "",
           f"![speed over torch and FBGEMM]({file.with_suffix('.svg').name})", "",
           "| id | figure | workload | ids | optimizer | peer | ours ms | against ms | target | "
           "reached |  |", "|" + " --- |" * 11]
    for row in rows:
        case, bound = row["case"], target(row)
        if row["value"] is None:
            out.append(f"| {row['id']} | | | | | {case['peer']}: {case['what']} | | | | | |")
            continue
        met = bound is not None and (row["value"] <= bound[1] if bound[0] == "≤" else
                                     row["value"] >= bound[1])
        optimizer = case.get("optimizer", f"{case['slowest']} over {case['fastest']}"
                             if "slowest" in case else "")
        shape = (f"{case['workload']}: {case['T']} x {case['rows']:,} x {case['D']}, "
                 f"{case['bags']:,} bags of {case['length']}")
        out.append(
            f"| {row['id']} | {figure_of(row)} | {shape} | {case['data']} | {optimizer} | "
            f"{case.get('peer', '')} | {milliseconds(row['seconds'])} | "
            f"{milliseconds(row['peer_seconds'] or row['floor_seconds'])} | "
            f"{f'{bound[0]} {bound[1]:g}' if bound else ''} | **{row['value']:.3g}** | "
            f"{'' if bound is None else 'met' if met else 'missed'} |")
    return "\n".join([*out, ""])


def picture(rows: list[Row]) -> str:
    """Bars of the peers' times over ours, a group for each workload with Zipf 1.05 ids."""
    series: dict[str, dict[str, float]] = {}
    groups: list[str] = []
    for row in rows:
        case = row["case"]
        if row["value"] is None or case.get("data") != "zipf1.05" or "peer" not in case:
            continue
        name = {"E3": "lookup", "E4": "step"}.get(row["id"])
        if name is None or "against" in case.get("optimizer", ""):
            continue
        if case["workload"] not in groups:
            groups.append(case["workload"])
        series.setdefault(f"{name}, {case['peer']}", {})[case["workload"]] = row["value"]
    return bars("Time of the peer / ours, Zipf 1.05", groups,
                {name: [values.get(g) for g in groups] for name, values in series.items()})


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    file = Path(sys.argv[1])
    rows = json.loads(file.read_text())
    file.with_suffix(".svg").write_text(picture(rows))
    file.with_suffix(".md").write_text(page(rows, file))


if __name__ == "__main__":
    main()
