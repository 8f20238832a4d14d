"""What the scripts promise before they do any work: usage, refusals, versions that agree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", ["setup", "test", "bench", "gpu_check", "quickstart"])
def test_is_valid_shell_and_executable(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    assert run("bash", "-n", path).returncode == 0


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("test", "test: unknown option --quik; known are --fast and --sanitize\n"),
        ("gpu_check", "gpu_check: unknown option --quik; known is --quick\n"),
    ],
)
def test_an_unknown_option_is_wrong_usage(script: str, sentence: str) -> None:
    result = run(ROOT / "scripts" / script, "--quik")
    assert (result.returncode, result.stderr) == (2, sentence)


@pytest.mark.parametrize("script", ["setup", "test", "bench", "gpu_check", "quickstart",
                                    "build_package"])
def test_help_is_the_opening_comment(script: str) -> None:
    for option in ("-h", "--help"):
        result = run(ROOT / "scripts" / script, option)
        assert (result.returncode, result.stderr) == (0, "")
        assert f"usage: scripts/{script}" in result.stdout and "#" not in result.stdout


def test_bench_names_its_suites() -> None:
    result = run(ROOT / "scripts" / "bench", "top-k")
    assert result.returncode == 2
    assert "topk" in result.stderr and 'got "top-k"' in result.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine may have a GPU")
def test_gpu_check_writes_nothing_without_a_gpu() -> None:
    results = ROOT / "docs" / "results"
    before = sorted(results.glob("gpu-*")) if results.exists() else []
    result = run(ROOT / "scripts" / "gpu_check")
    assert result.returncode == 1
    assert result.stderr.startswith("gpu_check: there is no GPU on this machine")
    assert (sorted(results.glob("gpu-*")) if results.exists() else []) == before


def test_pins_of_the_environment_and_of_the_package_agree() -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "scripts" / "requirements.txt").read_text().split()
        if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["project"]["dependencies"] + project["build-system"]["requires"]
    exact = dict(d.split("==") for d in declared if "==" in d)
    assert exact == {p: pinned[p] for p in ("torch", "pyarrow", "pybind11")}


def test_benchmark_rows_keep_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    from common import Suite

    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--json", str(file)])
    suite = Suite("test")
    suite.seconds = 0.0
    compared = []
    suite.speed_up("S10", {"N": 3}, lambda: 1, lambda: 2, lambda a, b: compared.append((a, b)))
    (row,) = json.loads(file.read_text())
    assert compared == [(1, 2)]
    assert list(row) == ["id", "case", "value", "unit", "better", "checked", "seconds",
                         "peer_seconds", "floor_seconds", "machine", "commit"]
    assert row["case"] == {"N": 3, "what": "time", "device": "cpu"}
    assert row["value"] == pytest.approx(row["peer_seconds"] / row["seconds"])


def test_a_wrong_answer_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "benchmarks"))
    from common import Suite

    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])

    def refuse(ours: int, peer: int) -> None:
        raise AssertionError("answers differ")

    calls: list[int] = []
    with pytest.raises(AssertionError, match="answers differ"):
        Suite("test").speed_up("S10", {}, lambda: calls.append(1), lambda: None, refuse)
    assert calls == [1]
