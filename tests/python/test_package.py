"""The package as a whole: what importing costs, and that the stubs tell the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import hypertower

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip()


def test_import_takes_no_torch_and_less_than_half_a_second() -> None:
    code = ("import sys, time; t = time.process_time(); import hypertower; "
            "print(time.process_time() - t, 'torch' in sys.modules, 'pyarrow' in sys.modules)")
    seconds, torch, arrow = run(code).split()
    assert (torch, arrow) == ("False", "False")
    assert float(seconds) < 0.5


def test_loading_and_asking_takes_no_torch(saved: Path) -> None:
    out = run(
        "import sys, hypertower as ht\n"
        f"rec = ht.Recommender.from_pretrained({str(saved)!r})\n"
        "ids, scores = rec.recommend([{'user': '3', 'context': {'hour': 21}}], k=4)\n"
        "assert len(ids[0]) == 4\n"
        "print('torch' in sys.modules)")
    assert out == "False"


def test_version_is_that_of_the_build() -> None:
    version = re.search(r"project\(hypertower VERSION ([0-9.]+)",
                        (ROOT / "CMakeLists.txt").read_text())
    assert version is not None
    assert hypertower.__version__ == version.group(1)


def test_stubs_equal_the_modules() -> None:
    package = Path(hypertower.__file__).parent
    assert (package / "py.typed").exists()
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "hypertower._core", "hypertower._trainer",
         "--ignore-missing-stub", "--ignore-disjoint-bases", "--allowlist",
         str(Path(__file__).parent / "stubtest_allowed.txt")],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
