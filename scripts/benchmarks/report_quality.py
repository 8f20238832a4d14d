"""The rows of bench_quality.py as a page: report_quality.py FILE > docs/benchmarks/held_out.md"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = ("id", "data", "figure", "target", "reached", "spread", "seeds", "seconds", "")


def line(row: dict[str, Any]) -> str:
    case, value = row["case"], row["value"]
    target = case["target"]
    verdict = "" if target is None else "met" if value >= target else "missed"
    cells = (row["id"], case["data"], case["figure"], "" if target is None else f"{target:g}",
             f"**{value:.4f}**", f"{case['spread']:.4f}" if case["seeds"] > 1 else "",
             str(case["seeds"]), f"{row['seconds']:.0f}", verdict)
    return "| " + " | ".join(cells) + " |"


def page(rows: list[dict[str, Any]]) -> str:
    def named(key: str) -> str:
        return ", ".join(sorted({row[key] for row in rows}))

    from bench_quality import __doc__ as what

    legend = (what or "").split("\n\n", 1)[1].strip("\n")
    return "\n".join([
        "# Quality on held-out parts", "",
        f"Machine: {named('machine')}. Commit {named('commit')}. Command: `scripts/bench quality",
        "--data DATA --json docs/benchmarks/held_out.json`. Seconds are those of one run: reading,",
        "training, training again on everything, answering, and of Q3 and Q4 the peer.", "",
        "```", legend, "```", "",
        "| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD),
        *(line(row) for row in rows), ""])


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    print(page(json.loads(Path(sys.argv[1]).read_text())), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
