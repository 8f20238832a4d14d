"""Turns the rows of `scripts/bench embedding` and `scripts/bench loss` into one page and a picture.

usage: python scripts/benchmarks/report_ops.py docs/benchmarks/embedding.json \\
           docs/benchmarks/loss.json docs/benchmarks/training.json > docs/benchmarks/ops.md
The picture is written beside the first file, as ops.svg.
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
           "E4": "backward and optimizer: the peer's time / ours",
           "R6": "backward: time / that of uniform ids",
           "R10": "lookup: time / without the check of ids and offsets",
           "R11": "lookup: time of int8 rows / of float32 rows",
           "R14": "backward: bytes of memory for each id",
           "H1": "ids found a second: full table / half full one",
           "L2": "loss over the catalogue: the peer's time / ours",
           "L3": "loss over samples: the peer's time / ours",
           "T0": "training step: that of the first version / ours"}
# Rows of embedding_parts.cpp; memory: 24 bytes an id and two buffers of a sort, 16 each.
PARTS = {"R10": ("≤", 1.02), "R11": ("≤", 0.45), "R14": ("≤", 24.0 + 32.0), "H1": ("≥", 0.85),
         "E4": ("≤", 1.3)}
METHOD = """\
Every answer was compared with the peer's before it was timed. The two are timed in turns, medians;
four batches of ids take turns so that no cache holds the next one's rows. torch:
`nn.EmbeddingBag(sparse=True)` and `optim.Adagrad`, which has no row-wise form: there ours is timed
with both. fbgemm: all tables in one call, fused row-wise Adagrad. The floor of a backward pass is
the gradient read once, each touched row and the cache line of its state read and written once, and
what a radix sort of the ids moves, at the rate of reading memory, measured before and after by all
threads; rows at random places come at a fifth to a third of that rate, so a second row holds the
backward pass against a loop that reads and writes its rows in place and nothing else. Rows without
a shape are those of `embedding_parts.cpp`. A star marks rows whose answer was not compared: they
are of the same calls. The loss is forward and backward. A training step is all of it, of the
trainer at commit 49ad647 and of this one (`bench_training.py` says on what)."""


def target(row: Row) -> tuple[str, float] | None:
    """The bound that a row is held against; none for shapes that are there to be watched."""
    case, row_id = row["case"], row["id"]
    what, peer = case.get("what"), case.get("peer", "")
    if what in ("time over floor", "slowest over fastest"):
        return "≤", 1.3
    if what == "memory":
        return "≤", 0.02
    if what == "dynamic over static":
        return "≤", 1.3
    if what == "part":
        return PARTS[row_id]
    if row_id == "T0":
        return "≥", 2.0
    if row_id == "R6":
        return "≤", 1.0 if case["data"] == "one row" else 0.8
    if row_id in ("L2", "L3"):  # targets of ours / peer: 0.35, 0.7, 0.7
        return "≥", 1 / 0.35 if (row_id, peer) == ("L2", "torch") else 1 / 0.7
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
    if what in ("time over floor", "slowest over fastest"):
        return f"backward: {what}"
    if what == "memory":
        return f"loss: extra memory / torch's ({row['case']['MB']} MB)"
    if what == "dynamic over static":
        return "training step: ids that come as they like / row numbers"
    if (row["id"], what) == ("E4", "part"):
        return "backward: time / planning, then touching its rows"
    return FIGURES[row["id"]]


def shape_of(case: Row) -> str:
    if case.get("what") == "part":
        return ""
    if "events" in case:
        return f"{case['workload']}: {case['events']:,} events, {case['items']:,} items"
    if "workload" not in case:
        return f"{case['B']:,} x {case['C']:,} x {case['D']}"
    return (f"{case['workload']}: {case['T']} x {case['rows']:,} x {case['D']}, "
            f"{case['bags']:,} bags of {case['length']}")


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.3g}"


def line(row: Row) -> str:
    case, bound = row["case"], target(row)
    if row["value"] is None:
        return f"| {row['id']} | | | | | {case['peer']}: {case['what']} | | | | | |"
    optimizer = case.get("optimizer", "")
    if "slowest" in case:
        optimizer = f"{case['slowest']} over {case['fastest']}"
    wanted = verdict = ""
    if bound is not None:
        met = row["value"] <= bound[1] if bound[0] == "≤" else row["value"] >= bound[1]
        wanted, verdict = f"{bound[0]} {bound[1]:.3g}", "met" if met else "missed"
    return (f"| {row['id']} | {figure_of(row)} | {shape_of(case)} | {case.get('data', '')} | "
            f"{optimizer} | {case.get('peer', '')} | {milliseconds(row['seconds'])} | "
            f"{milliseconds(row['peer_seconds'] or row['floor_seconds'])} | {wanted} | "
            f"**{row['value']:.3g}**{'' if row['checked'] else ' *'} | {verdict} |")


def page(rows: list[Row]) -> str:
    commits = ", ".join(dict.fromkeys(row["commit"] for row in rows))
    return "\n".join([
        "# Embedding tables and softmax loss on the CPU", "",
        f"Machine: {rows[0]['machine']}. Commit {commits}. Commands: "
        "`scripts/bench embedding --json docs/benchmarks/embedding.json`, "
        "`scripts/bench loss --json docs/benchmarks/loss.json`, `scripts/bench training --before "
        "PROGRAM --json docs/benchmarks/training.json`.", "", METHOD, "",
        "![time of torch and FBGEMM over ours](ops.svg)", "",
        "| id | figure | shape | ids | optimizer | peer | ours ms | against ms | target | "
        "reached |  |", "|" + " --- |" * 11, *map(line, rows)])


def picture(rows: list[Row]) -> str:
    """Bars of the peers' times over ours, a group for each workload with Zipf 1.05 ids."""
    series: dict[str, dict[str, float]] = {}
    groups: list[str] = []
    for row in rows:
        case = row["case"]
        name = {"E3": "lookup", "E4": "backward"}.get(row["id"])
        if (row["value"] is None or name is None or case.get("data") != "zipf1.05"
                or "peer" not in case or "against" in case.get("optimizer", "")):
            continue
        if case["workload"] not in groups:
            groups.append(case["workload"])
        series.setdefault(f"{name}, {case['peer']}", {})[case["workload"]] = row["value"]
    return bars("Time of the peer / ours, Zipf 1.05", groups,
                {name: [values.get(g) for g in groups] for name, values in series.items()})


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    files = [Path(name) for name in sys.argv[1:]]
    rows = [row for file in files for row in json.loads(file.read_text())]
    (files[0].parent / "ops.svg").write_text(picture(rows))
    print(page(rows))


if __name__ == "__main__":
    main()
