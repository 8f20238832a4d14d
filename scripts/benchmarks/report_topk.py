"""Turns the rows of `scripts/bench topk --json FILE` into a page and a picture beside the file.

usage: python scripts/benchmarks/report_topk.py docs/benchmarks/topk.json [--command TEXT]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from topk.report import page, picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, help="the JSON file; .md and .svg are written beside it")
    parser.add_argument("--command", help="the command to name in the page")
    options = parser.parse_args()
    rows = json.loads(options.rows.read_text())
    image = options.rows.with_suffix(".svg")
    image.write_text(picture(rows))
    command = options.command or f"scripts/bench topk --json {options.rows}"
    options.rows.with_suffix(".md").write_text(page(rows, command, image.name))


if __name__ == "__main__":
    main()
