"""The layer check must find each kind of mistake, and accept what the design allows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import check_layers  # noqa: E402


@pytest.mark.parametrize(
    ("path", "line", "finding"),
    [
        ("kernels/a.cpp", '#include "model/schema.h"', 'must not include "model/schema.h"'),
        ("model/a.h", '#include "trainer/config.h"', "model/ must not include"),
        ("trainer/a.cpp", '#include "server/http.h"', "trainer/ must not include"),
        ("server/a.cpp", '#  include "trainer/train.h"', "server/ must not include"),
        ("kernels/a.h", '#include "tests/support/random.h"', "kernels/ must not include"),
        ("server/a.cpp", "#include <torch/torch.h>", "torch (<torch/torch.h>) is for trainer/"),
        ("model/a.cpp", "#include <ATen/ATen.h>", "torch (<ATen/ATen.h>)"),
        ("kernels/a.cpp", "#include <arrow/api.h>", "Arrow (<arrow/api.h>)"),
        ("server/a.cpp", "#include <cuda_runtime.h>", "CUDA (<cuda_runtime.h>)"),
        ("kernels/a.cpp", '#include "topk.h"', "is not written from the root"),
        ("kernels/a.cpp", '#include "../model/a.h"', "is not written from the root"),
    ],
)
def test_finds_an_include_in_the_wrong_direction(path: str, line: str, finding: str) -> None:
    findings = check_layers.check([(path, f"#pragma once\n{line}\n")])
    assert len(findings) == 1
    assert findings[0].startswith(f"{path}:2: ")
    assert finding in findings[0]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("model/a.cpp", '#include "kernels/topk.h"'),
        ("trainer/a.cpp", "#include <torch/torch.h>"),
        ("python/bindings/trainer.cpp", "#include <torch/torch.h>"),
        ("python/bindings/core.cpp", '#include "model/recommender.h"'),
        ("kernels/cuda/topk.cu", "#include <cuda_bf16.h>"),
        ("kernels/cuda/launch.cuh", '#include "tests/cuemu/cuemu.h"'),
        ("tests/server/a_test.cpp", '#include "trainer/train.h"'),
        ("server/a.cpp", '// #include "trainer/train.h"'),
    ],
)
def test_accepts_the_design(path: str, line: str) -> None:
    assert check_layers.check([(path, line + "\n")]) == []


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("kernels/a.h", 250),
        ("kernels/cuda/a.cuh", 250),
        ("server/a.cpp", 500),
        ("python/hypertower/a.py", 500),
        ("tests/model/a_test.cpp", 400),
        ("tests/cuemu/a.cpp", 500),
        ("tests/python/test_a.py", 400),
        ("configs/a.toml", 60),
    ],
)
def test_bounds_the_size_of_files(path: str, limit: int) -> None:
    assert check_layers.check([(path, "\n" * limit)]) == []
    findings = check_layers.check([(path, "\n" * (limit + 1))])
    assert len(findings) == 1 and f"{limit + 1} lines" in findings[0]


def test_program_reads_a_repository_and_says_where(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "a.cpp").write_text('#include "server/http.h"\n')
    program = [sys.executable, str(ROOT / "scripts" / "check_layers.py"), str(tmp_path)]
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout.startswith("kernels/a.cpp:1: ")
    (tmp_path / "kernels" / "a.cpp").write_text("")
    assert subprocess.run(program, capture_output=True).returncode == 0


def test_this_checkout_passes() -> None:
    findings = check_layers.check(check_layers.tracked_files(ROOT))
    assert findings == []
