"""The command line: answers on stdout, sentences on stderr, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hypertower
from hypertower.cli import _pairs, _table, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hypertower", *arguments], capture_output=True,
                          text=True, timeout=300)


def test_help_teaches_the_data_path() -> None:
    out = run("--help").stdout
    for word in ("train", "evaluate", "recommend", "serve", "inspect", "doctor", "synth", "schema",
                 "bench"):
        assert word in out


def test_recommend(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(saved), "--user", "196", "--context", "hour=21", "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("\t" in line for line in lines)
    assert main(["recommend", str(saved), "--where", '{"category": ["c1"]}', "--json"]) == 0
    assert {"id", "score"} == set(json.loads(capsys.readouterr().out)[0])
    # Options before the model do not swallow it, and several pairs follow one option.
    assert main(["recommend", "--context", "hour=21", "weather=rain", str(saved), "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(("texts", "kinds", "expected"), [
    (["zip=01234"], {"zip": "category"}, {"zip": "01234"}),
    (["city=Washington, DC"], {"city": "category"}, {"city": "Washington, DC"}),
    (["words=a,b"], {"words": "categories"}, {"words": ["a", "b"]}),
    (["age=30", "mood=0.5,1"], {"age": "number", "mood": "vector"},
     {"age": 30, "mood": [0.5, 1]}),
    (["link=a=b"], {}, {"link": "a=b"}),
])
def test_the_schema_says_what_a_pair_means(texts: list[str], kinds: dict[str, str],
                                           expected: dict[str, object]) -> None:
    assert _pairs(texts, kinds) == expected


def test_evaluate_and_inspect(saved: Path, world: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    events = str(world / "events.csv.gz")
    assert main(["evaluate", str(saved), events, "--json"]) == 0
    assert "recall@10" in json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(saved), events, "--by", "context.weather"]) == 0
    out = capsys.readouterr().out
    assert "popularity" in out and "rain" in out
    assert " events, 0 of items that the model does not know" in out
    assert main(["inspect", str(saved)]) == 0
    assert "format_version" in capsys.readouterr().out


def test_only_a_single_best_is_starred() -> None:
    lines = _table({"model": {"recall@10": 0.2, "ndcg@10": 0.1},
                    "popularity": {"recall@10": 0.1, "ndcg@10": 0.1}}).splitlines()
    assert lines[1].count("*") == 1 and lines[2].count("*") == 0


def test_train_runs_the_program(world: Path, tmp_path: Path) -> None:
    done = run("train", str(world / "config.toml"), "--out", str(tmp_path / "m"),
               "--set", "training.epochs=1", "--set", "training.refit=false")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "manifest.json").exists()
    assert "ndcg@10" in done.stdout


def test_train_refuses_the_target_before_it_reads_data(world: Path, tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    data = ["--data", str(tmp_path / "no such folder")]
    done = run("train", str(world / "config.toml"), "--out", str(tmp_path / "letter"), *data)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (f"hypertower-train: the model was not saved: '{tmp_path / 'letter'}' is "
                           "a file; choose another name or remove it.\n")
    done = run("train", str(world / "config.toml"), "--out", str(tmp_path), *data)
    assert done.stderr == (f"hypertower-train: the model was not saved: the directory '{tmp_path}' "
                           "holds other files and no model; choose another name or empty it.\n")


@pytest.mark.parametrize("name", ["hypertower-train", "hypertower-server"])
def test_the_programs_are_commands_too(name: str) -> None:
    command = Path(sys.executable).with_name(name)
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{name} {hypertower.__version__}\n")


def test_schema_drafts_a_config_that_trains(world: Path, tmp_path: Path) -> None:
    done = run("schema", str(world / "events.csv.gz"), "--items", str(world / "items.csv.gz"),
               "--users", str(world / "users.csv.gz"))
    assert done.returncode == 0 and "\nweather = { kind" in done.stdout
    (tmp_path / "draft.toml").write_text(done.stdout)
    trained = run("train", str(tmp_path / "draft.toml"), "--out", str(tmp_path / "m"),
                  "--set", "training.epochs=1", "--set", "training.refit=false")
    assert trained.returncode == 0, trained.stderr


def test_doctor_finds_everything_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0, capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["recommend", "no/such/model"], 1, "no/such/model"),
    (["evaluate", "no/such/model", "x.csv"], 1, "no/such/model"),
    (["schema", "no/such.csv"], 1, "no/such.csv: no such file"),
    (["synth", "/tmp/never", "--items", "3"], 1, "items: expected at least 20, got 3"),
    (["synth", "/tmp/never", "--events", "-5"], 2, "expected a count such as 60000 or 1e6"),
    (["nonsense"], 2, "invalid choice"),
    (["recommend"], 2, "model"),
    (["train", "no/such.toml"], 1, "no/such.toml"),
    (["serve", "no/such/model"], 1, "no/such/model"),
])
def test_failures_are_one_sentence(arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_wrong_pairs_are_wrong_usage(saved: Path) -> None:
    done = run("recommend", str(saved), "--context", "hour")
    assert done.returncode == 2 and "expected NAME=VALUE, got 'hour'" in done.stderr


def test_bench_runs_the_script_of_a_checkout_or_says_so(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("hypertower.cli.__file__", str(tmp_path / "installed" / "cli.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "topk"]) == 1
    assert capsys.readouterr().err == (
        "hypertower: benchmarks run from a checkout of the project, and neither this package nor "
        "the working directory lies in one.\n")
    for file in ("scripts/bench", "kernels/topk.h"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    started: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, arguments: started.append(arguments))
    main(["bench", "topk", "--quick"])
    assert started[0] == [str(tmp_path / "scripts" / "bench"), "topk", "--quick"]


def test_a_draft_of_many_columns_fits_a_page(tmp_path: Path) -> None:
    names = ["user_id", "item_id", "timestamp", *(f"column{i}" for i in range(45))]
    rows = [[str(i % 7), str(i % 5), str(i), *(str(i % (3 + j)) for j in range(45))]
            for i in range(100)]
    (tmp_path / "wide.csv").write_text("\n".join(",".join(r) for r in [names, *rows]) + "\n")
    done = run("schema", str(tmp_path / "wide.csv"))
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 60
