#!/usr/bin/env python3
"""Checks the one direction of the rooms and the size of files.

    kernels <- model <- {trainer, server} <- python;   tests and scripts see all

usage: scripts/check_layers.py [ROOT]     exit 0: fine, 1: findings (one a line), 2: wrong usage
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# What a room may include. Rooms that are not named (tests, scripts) may include anything.
ALLOWED = {
    "kernels": {"kernels"},
    "model": {"kernels", "model"},
    "trainer": {"kernels", "model", "trainer"},
    "server": {"kernels", "model", "server"},
    "python": {"kernels", "model", "trainer", "python"},
}
ROOMS = {*ALLOWED, "tests"}
QUOTED_LIBRARIES = {"hwy"}  # Highway includes its user's file again, and wants quotes for that

# Frameworks by the start of the include path, and the only places that may see them.
FRAMEWORKS = {
    "torch": (r"(torch|ATen|c10|caffe2)/", ("trainer/", "python/bindings/", "tests/trainer/")),
    "Arrow": (r"(arrow|parquet)/", ("trainer/", "python/bindings/", "tests/trainer/")),
    "CUDA": (r"(cuda|cublas|cub/|thrust/|mma\.h)", ("kernels/cuda/", "tests/")),
}

MAX_LINES = {"header": 250, "source": 500, "test": 400, "config": 60}

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
HEADERS = {".h", ".cuh"}
SOURCES = {".cpp", ".cu", ".py"}


def kind_of(path: str) -> str | None:
    """The kind of file that a size bound names, or None where there is no bound."""
    suffix = Path(path).suffix
    if path.startswith("configs/") and suffix == ".toml":
        return "config"
    if suffix not in HEADERS | SOURCES:
        return None
    name = Path(path).stem
    if path.startswith("tests/") and (name.endswith("_test") or name.startswith("test_")):
        return "test"
    return "header" if suffix in HEADERS else "source"


def check_size(path: str, text: str) -> Iterator[str]:
    kind = kind_of(path)
    lines = text.count("\n")
    if kind and lines > MAX_LINES[kind]:
        yield (
            f"{path}: {lines} lines, a {kind} has at most {MAX_LINES[kind]}: "
            "split it along a concept"
        )


def check_includes(path: str, text: str) -> Iterator[str]:
    room = path.split("/")[0]
    if Path(path).suffix not in HEADERS | SOURCES - {".py"}:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        target = match[1] or match[2]
        where = f"{path}:{number}"
        target_room = target.split("/")[0]
        if match[1]:
            if target_room not in ROOMS | QUOTED_LIBRARIES:
                yield f'{where}: "{target}" is not written from the root of the project'
            elif room in ALLOWED and target_room not in ALLOWED[room] | QUOTED_LIBRARIES:
                # The CUDA header's host twin is the one thing that the product takes from tests.
                if path != "kernels/cuda/launch.cuh" or not target.startswith("tests/cuemu/"):
                    yield f'{where}: {room}/ must not include "{target}"'
        for framework, (pattern, places) in FRAMEWORKS.items():
            if match[2] and re.match(pattern, target) and not path.startswith(places):
                yield f"{where}: {framework} (<{target}>) is for {', '.join(places)} only"


def check(files: Iterable[tuple[str, str]]) -> list[str]:
    """Findings for (path from the root, text) pairs."""
    findings: list[str] = []
    for path, text in files:
        findings += check_size(path, text)
        findings += check_includes(path, text)
    return findings


def tracked_files(root: Path) -> Iterator[tuple[str, str]]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout
    for path in sorted(set(filter(None, listing.split("\0")))):
        if kind_of(path) and (root / path).is_file():
            yield path, (root / path).read_text(encoding="utf-8")


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    files = list(tracked_files(root))
    findings = check(files)
    print("\n".join(findings) if findings else f"layers and sizes of {len(files)} files: fine")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
