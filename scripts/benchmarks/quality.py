"""Trains every config on its data and writes the table docs/benchmarks/quality.md.

usage: quality.py DATA [--only NAME ...] [--threads N]
DATA holds one folder per data set, as configs/<name>.toml says in its first comment line
("# data: <folder>"); absent folders are skipped. Metrics: exact, whole catalogue, on the part that
the config's split holds back; baselines on the same events. Rows that are not made again stay as
they are, with the commit that made them (docs/benchmarks/quality.json).
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


def row(report: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of a report, and where it was made."""
    test, baselines, counts = report["test"], report["baselines"], report["counts"]
    return {
        "events": counts["events"], "items": counts["items"],
        "split": report["settings"]["data.split"], "test_events": counts["test_events"],
        "recall@10": test["recall@10"], "ndcg@10": test["ndcg@10"],
        "baselines": {b: baselines[b]["ndcg@10"] for b in BASELINES},
        "seconds": report["wall"], "machine": machine("cpu"), "commit": commit(),
        "date": str(datetime.date.today()),
    }


def table(rows: dict[str, dict[str, Any]], threads: int) -> str:
    head = ("data", "events", "items", "split", "test events", "recall@10", "ndcg@10",
            *(f"{b.replace('_', ' ')} ndcg@10" for b in BASELINES), "beats all", "seconds",
            "commit")
    lines = [
        "# Quality on real data", "",
        "Exact metrics over the whole catalogue; the model and its baselines answer the same",
        "held-back events with the same history and exclusions. Each row is one run of its config",
        "with the defaults; seconds are wall clock from files to exported model, baselines",
        "included.", "",
        f"Machine: {', '.join(sorted({r['machine'] for r in rows.values()}))}. Command:",
        f"`python scripts/benchmarks/quality.py DATA --threads {threads}`.", "",
        "| " + " | ".join(head) + " |", "|" + "---|" * len(head),
    ]
    for name, r in sorted(rows.items()):
        best = max(r["baselines"].values())
        cells = [name, f"{r['events']:,}", f"{r['items']:,}", r["split"], f"{r['test_events']:,}",
                 f"{r['recall@10']:.4f}", f"**{r['ndcg@10']:.4f}**",
                 *(f"{r['baselines'][b]:.4f}" for b in BASELINES),
                 "yes" if r["ndcg@10"] > best else "**no**", f"{r['seconds']:.0f}",
                 f"{r['commit']}, {r['date']}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of data sets")
    parser.add_argument("--only", nargs="*", help="names of configs; default all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    kept = OUT.with_suffix(".json")
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    for config in sorted((ROOT / "configs").glob("*.toml")):
        data = args.data / folder_of(config)
        if args.only and config.stem not in args.only:
            continue
        if not data.is_dir():
            print(f"{config.stem}: no folder {data}", file=sys.stderr)
            continue
        rows[config.stem] = row(train(config, data, args.threads))
        print(config.stem, json.dumps(rows[config.stem]), flush=True)
        OUT.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
        OUT.write_text(table(rows, args.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
