"""The rows that scripts/gpu_check wrote, as a page: report_gpu.py FILE > docs/benchmarks/gpu.md"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Targets, as (rows they hold for, sign, bound).
TARGETS: dict[str, tuple[dict[str, Any], str, float]] = {
    "S1": ({"N": 10_000_000, "B": 1024}, "≤", 1.4),
    "S2": ({"N": 10_000_000, "B": 256}, "≤", 1.5),
    "S3": ({"N": 10_000_000}, "≥", 0.85),
    "S7": ({"N": 10_000_000}, "≤", 1.5),
    "S8": ({}, "≤", 0),
    "S11": ({}, "≤", 1.2),
}
SPEED_UP = {1: 2.0, 256: 5.0, 1024: 5.0}  # S4, by rows of a batch
FILTERED = {0.9: 1.05, 0.99: 1.0, 0.9999: 0.2}
FIGURES = {
    "rate": "limits of the device", "S1": "time / floor of the bf16 product",
    "S2": "time / floor of the int8 product", "S3": "rate of reading codes / copy",
    "S4": "torch's time / ours", "S5": "filtered / unfiltered time", "S7": "K = 1024 / K = 10",
    "S8": "bits other than the CPU's", "S11": "p99 / p50", "E3": "lookup: torch's time / ours",
    "E4": "training step: torch's time / ours", "L2": "softmax loss: torch's time / ours",
    "L3": "softmax loss, sampled columns: torch's time / ours",
}


def target_of(row: dict[str, Any]) -> tuple[str, float] | None:
    case = row["case"]
    if row["id"] == "S5":
        return "≤", FILTERED[case["filtered"]]
    if row["id"] == "S4" and case["B"] in SPEED_UP:
        return "≥", SPEED_UP[case["B"]]
    where, sign, bound = TARGETS.get(row["id"], ({}, "", 0.0))
    if not sign or any(case[key] != value for key, value in where.items()):
        return None
    return sign, bound


def number(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.3g}"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = json.loads(Path(sys.argv[1]).read_text())
    print("# On a GPU\n")
    print(f"Machine: {rows[0]['machine']}. Commit {rows[0]['commit']}. "
          "Commands: `scripts/bench topk`, `embedding` and `loss` with `--device cuda` (all of "
          f"`scripts/gpu_check` behind its tests); rows in `{sys.argv[1]}`.\n")
    print("Answers were compared before they were timed, against torch and, where the case says "
          "so, bit by bit against the CPU; a star marks rows whose answer was not compared. Times "
          "are those of a caller in Python who waits for the answer, medians; figures without a "
          "target are there to be beaten.\n")
    print("| id | figure | case | ours ms | against ms | target | reached |  |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        hidden = ("device", "peer", "data") if row["id"][0] == "S" else ("device", "peer")
        case = ", ".join(f"{k}={v:,}" if isinstance(v, int) else f"{k}={v}"
                         for k, v in row["case"].items() if k not in hidden and v != "time")
        target = target_of(row)
        verdict = wanted = ""
        if target is not None:
            met = row["value"] <= target[1] if target[0] == "≤" else row["value"] >= target[1]
            verdict = "met" if met else "missed"
            wanted = f"{target[0]} {target[1]:g}"
        star = "" if row["checked"] or row["id"] == "rate" else " \\*"
        against = row["peer_seconds"] or row["floor_seconds"]
        unit = f" {row['unit']}" if row["id"] == "rate" else ""
        print(f"| {row['id']} | {FIGURES[row['id']]} | {case} | {number(row['seconds'], 1e3)} | "
              f"{number(against, 1e3)} | {wanted} | **{number(row['value'])}**{unit}{star} | "
              f"{verdict} |")


if __name__ == "__main__":
    main()
