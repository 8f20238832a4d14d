"""Training by this checkout and by another one, on the same data with the same settings.

T0: seconds of one step, from drawing the batch to the step of the optimizers. "films": synthetic
film views with the moment, the whole catalogue of 3,000 as negatives, as MovieLens trains.
"10M rows": 300,000 events of as many accounts, hashed into a table of ten million rows, sampled
negatives out of 200,000 items. Each program trains in turns; nothing is compared: the two may
differ in rounding and in what they draw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from common import ROOT, Suite

OURS = ROOT / "build" / "release" / "trainer" / "hypertower-train"
PLAIN = """
name = "{name}"
[data]
events = "events.parquet"
split = "time"
valid_fraction = 0.0
test_fraction = 0.0005
[columns]
user = "user"
item = "item"
time = "time"
[user.account]
kind = "category"
{account}
[context.hour]
from = "time"
[context.weekday]
from = "time"
[history]
length = 20
[training]
epochs = 2
batch_size = 512
refit = false
item_start = "random"
{training}
"""
HASHED = "min_count = 1000000\noov_rows = {rows}"


def write(folder: Path, name: str, events: int, users: int, items: int, account: str,
          training: str) -> None:
    """Events with users by chance and items by Zipf's law."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    rank = np.minimum(items * rng.random(events) ** 3, items - 1).astype(np.int64)
    user = rng.integers(users, size=events)
    table = pa.table({
        "user": user, "item": rng.permutation(items)[rank],
        "time": 1_600_000_000 + np.sort(rng.integers(10_000_000, size=events)), "account": user})
    pq.write_table(table, folder / "events.parquet")
    text = PLAIN.format(name=name, account=account, training=training)
    (folder / "config.toml").write_text(text)


def step_seconds(program: Path, folder: Path) -> float:
    """Of the second epoch, whose data and memory are there."""
    # An older program knows no other way to read histories.
    reader = ["--set", "model.history=pools"] if program == OURS else []
    run = subprocess.run([program, folder / "config.toml", "--out", folder / "model", "--quiet",
                          "--json", *reader], check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(run.stdout)
    steps = -(-int(report["counts"]["train_events"]) // 512)
    return float(report["epochs"][-1]["seconds"]) / steps


def main() -> None:
    suite = Suite(__doc__ or "", before={"type": Path, "required": True, "metavar": "PROGRAM",
                                         "help": "hypertower-train of the other checkout"})
    before: Path = suite.options.before
    if not before.is_file():
        sys.exit(f"bench: --before: there is no program {before}")
    small = suite.quick
    cases = {
        "films": (100_000 if small else 300_000, 6000, 3000, "", 'loss = "full_softmax"'),
        "10M rows": (100_000 if small else 300_000, 10**9, 200_000,
                     HASHED.format(rows=100_000 if small else 10_000_000),
                     'loss = "sampled_softmax"')}
    for name, (events, users, items, account, training) in cases.items():
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at)
            write(folder, name, events, users, items, account, training)
            times: tuple[list[float], list[float]] = ([], [])
            for _ in range(1 if small else 2):
                for program, taken in zip((OURS, before), times, strict=True):
                    taken.append(step_seconds(program, folder))
        ours, theirs = median(times[0]), median(times[1])
        suite.add("T0", {"workload": name, "events": events, "items": items,
                         "what": "training step", "peer": "before", "device": suite.device},
                  theirs / ours, "x", "higher", False, ours, theirs)


if __name__ == "__main__":
    main()
