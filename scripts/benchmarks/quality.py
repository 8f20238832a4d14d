"""Trains every config on its data and writes the table docs/benchmarks/quality.md.

usage: quality.py DATA [--only NAME ...] [--threads N]
DATA holds one folder per data set, as configs/<name>.toml says in its first comment line
("# data: <folder>"); absent folders are listed as such. Metrics: exact, whole catalogue, on the
part that the config's split holds back; baselines on the same events.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, commit, machine

BASELINES = ("popularity", "recent_popularity", "item_knn")
OUT = ROOT / "docs/benchmarks/quality.md"


def folder_of(config: Path) -> str:
    match = re.match(r"# data: (\S+)", config.read_text())
    if match is None:
        raise SystemExit(f"{config}: expected a first line '# data: FOLDER'")
    return match.group(1)


def train(config: Path, data: Path, threads: int) -> dict[str, Any]:
    """The report of one training, with wall-clock seconds added."""
    with tempfile.TemporaryDirectory() as out:
        start = time.monotonic()
        done = subprocess.run(
            [Path(sys.executable).parent / "hypertower", "train", config, "--data", data, "--out",
             f"{out}/model", "--threads", str(threads), "--json"],
            stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"quality: {config.name} failed; its message is above")
        return {**json.loads(done.stdout), "wall": time.monotonic() - start}


def row(name: str, report: dict[str, Any]) -> str:
    test, baselines, counts = report["test"], report["baselines"], report["counts"]
    split = report["settings"]["data.split"]
    cells = [name, f"{counts['events']:,}", f"{counts['items']:,}", split]
    cells += [f"{counts['test_events']:,}", f"{test['recall@10']:.4f}"]
    cells += [f"**{test['ndcg@10']:.4f}**"]
    cells += [f"{baselines[b]['ndcg@10']:.4f}" for b in BASELINES]
    best = max(baselines[b]["ndcg@10"] for b in BASELINES)
    cells += ["yes" if test["ndcg@10"] > best else "**no**", f"{report['wall']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--only", nargs="*", help="names of configs; default all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    head = ("data", "events", "items", "split", "test events", "recall@10", "ndcg@10",
            *(f"{b.replace('_', ' ')} ndcg@10" for b in BASELINES), "beats all", "seconds")
    only = f" --only {' '.join(args.only)}" if args.only else ""
    lines = [
        "# Quality on real data", "",
        "Exact metrics over the whole catalogue; the model and its baselines answer the same",
        "held-back events with the same history and exclusions. Each row is one run of its config",
        "with the defaults; seconds are wall clock from files to exported model, baselines",
        "included.", "",
        f"Machine: {machine('cpu')}. Commit {commit()}, {datetime.date.today()}. Command:",
        f"`python scripts/benchmarks/quality.py DATA --threads {args.threads}{only}`.", "",
        "| " + " | ".join(head) + " |", "|" + "---|" * len(head),
    ]
    for config in sorted((ROOT / "configs").glob("*.toml")):
        if args.only and config.stem not in args.only:
            continue
        data = args.data / folder_of(config)
        if not data.is_dir():
            lines.append(f"| {config.stem} | no folder {data.name} |" + " |" * (len(head) - 2))
            continue
        lines.append(row(config.stem, train(config, data, args.threads)))
        print(lines[-1], flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
