"""Fetches MovieLens-100K (GroupLens research data) as the three tables that configs/movielens.toml
names. The files come inside the `recbole` wheel on PyPI; they are cached outside the project.

usage: movielens.py FOLDER    (exit 1 when there is no network)
"""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "recbole==1.2.1"
INSIDE = "recbole/dataset_example/ml-100k/ml-100k."

# Our file, theirs, and the column names in their order.
TABLES = (
    ("events.csv.gz", "inter", ["user_id", "item_id", "rating", "timestamp"]),
    ("items.csv.gz", "item", ["item_id", "title", "year", "genres"]),
    ("users.csv.gz", "user", ["user_id", "age", "gender", "occupation", "zip_code"]),
)


def convert(text: str, columns: list[str]) -> list[list[str]]:
    """Tab-separated with a typed header -> rows; genres are joined by '|' instead of blanks."""
    rows = [line.split("\t") for line in text.splitlines()[1:] if line]
    if "genres" in columns:
        at = columns.index("genres")
        for row in rows:
            row[at] = row[at].replace(" ", "|")
    return rows


def fetch(folder: Path) -> None:
    """Downloads the wheel and writes the tables; each file appears complete or not at all."""
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
             "--no-deps", "--dest", temporary, WHEEL], check=True)
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            texts = {theirs: archive.read(INSIDE + theirs).decode() for _, theirs, _ in TABLES}
    folder.mkdir(parents=True, exist_ok=True)
    for ours, theirs, columns in TABLES:
        part = folder / (ours + ".part")
        with gzip.open(part, "wb") as out, io.TextIOWrapper(out, "utf-8", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(convert(texts[theirs], columns))
        part.rename(folder / ours)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    if all((folder / ours).exists() for ours, _, _ in TABLES):
        return 0
    try:
        fetch(folder)
    except subprocess.CalledProcessError:
        print(f"movielens.py: could not download {WHEEL}; is there a network?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
