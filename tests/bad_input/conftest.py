"""A small shop whose files and config a test breaks in one place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """\
name = "shop"
[data]
events = "events.csv"
items = "items.csv"
split = "time"
[columns]
user = "user"
item = "item"
time = "time"
[item.brand]
kind = "category"
[item.price]
kind = "number"
[context.weather]
kind = "category"
"""


class Shop:
    """A folder with config.toml, events.csv and items.csv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("config.toml", CONFIG)
        self.write_events([(f"u{i % 20}", f"i{i * 7 % 15}", str(1000 + i * 60))
                           for i in range(200)])
        self.write_items([(f"i{i}", f"b{i % 3}", f"{i}.5") for i in range(15)])

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def write_events(self, rows: list[tuple[str, str, str]]) -> None:
        lines = [",".join((*row, "sun" if i % 2 else "rain")) for i, row in enumerate(rows)]
        self.write("events.csv", "\n".join(["user,item,time,weather", *lines]) + "\n")

    def write_items(self, rows: list[tuple[str, str, str]]) -> None:
        lines = [",".join(row) for row in rows]
        self.write("items.csv", "\n".join(["item,brand,price", *lines]) + "\n")

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "hypertower", *arguments], cwd=self.folder,
                              capture_output=True, text=True, timeout=120)

    def train(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("train", "config.toml", "--out", "model", "--set", "training.epochs=1",
                        "--set", "training.refit=false", *options)

    def refusal(self, *options: str) -> str:
        """The one sentence on stderr of a training that must fail, leaving nothing behind."""
        done = self.train(*options)
        assert done.returncode == 1, done.stderr
        assert done.stdout == "" and not (self.folder / "model").exists()
        return done.stderr.strip().removeprefix("hypertower-train: ")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
