"""Data with a known truth: reproducible, and context is what the model learns from it."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import numpy as np
import pytest

import hypertower as ht
from hypertower.cli import main
from hypertower.synth import make_world, synth


def test_same_seed_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        synth(tmp_path / name, events=500, users=20, items=30, seed=5)
    files = ["events.csv.gz", "items.csv.gz", "users.csv.gz", "truth.json", "config.toml"]
    same, different, missing = filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, False)
    assert same == files, (different, missing)


def test_the_best_reachable_recall_is_what_the_truth_gives(tmp_path: Path) -> None:
    """Recommending by the true probabilities reaches the stated number within sampling error."""
    import pyarrow.csv as csv

    truth = synth(tmp_path, events=20_000, users=50, items=100, seed=3)
    world = make_world(50, 100, truth["context"], truth["sharpness"], 3)
    events = csv.read_csv(tmp_path / "events.csv.gz").to_pydict()
    test = slice(18_000, 20_000)
    hours = np.array(events["timestamp"][test]) // 3600 % 24
    names = ["sun", "cloud", "rain", "snow"]
    weather = np.array([names.index(w) for w in events["weather"][test]])
    logits = world.logits(np.array(events["user_id"][test]), hours, weather)
    best = np.argsort(-logits, axis=1)[:, :10]
    hit = (best == np.array(events["item_id"][test])[:, None]).any(axis=1).mean()
    assert abs(hit - truth["best recall@10"]) < 4 * np.sqrt(0.25 / 2000)


@pytest.mark.slow
def test_context_is_learned(tmp_path: Path) -> None:
    """recall@10 >= 0.85 of the best reachable; with the context shuffled, or never given, clearly
    less."""
    import pyarrow as pa
    import pyarrow.csv as csv

    truth = synth(tmp_path)
    config = tmp_path / "config.toml"
    rec = ht.Recommender.from_config(config).fit(progress=False)
    reached = rec.evaluate()["recall@10"]
    assert reached >= 0.85 * truth["best recall@10"]

    events = csv.read_csv(tmp_path / "events.csv.gz")
    test = events.slice(int(0.9 * events.num_rows))
    rng = np.random.default_rng(0)
    order = rng.permutation(test.num_rows)
    weather = test["weather"].take(pa.array(order))
    hours = np.asarray(test["timestamp"]) // 3600 % 24
    shuffled = test.set_column(test.column_names.index("weather"), "weather", weather)
    shuffled = shuffled.append_column("hour", pa.array(hours[order]))
    text = config.read_text().replace('[context.hour]\nfrom = "time"', "")
    (tmp_path / "without.toml").write_text(text.replace('[context.weather]\nkind = "category"', ""))
    requests = [{"user": u, "context": {"hour": int(h), "weather": w}}
                for u, h, w in zip(test["user_id"].to_pylist(), hours[order],
                                   shuffled["weather"].to_pylist(), strict=True)]
    ids, _ = rec.recommend(requests, k=10)
    shuffled_recall = np.mean([i in row for i, row in zip(test["item_id"].to_pylist(), ids,
                                                          strict=True)])
    assert shuffled_recall < 0.7 * reached

    without = ht.Recommender.from_config(tmp_path / "without.toml").fit(progress=False)
    assert without.evaluate()["recall@10"] < 0.8 * reached
    assert json.loads((tmp_path / "truth.json").read_text()) == truth


@pytest.mark.parametrize("name", ["config.toml", "items.csv.gz"])
def test_a_full_disk_is_one_sentence(tmp_path: Path, name: str,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    """/dev/full answers every write with "no space left"."""
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(ht.IoError, match="No space left on device"):
        synth(tmp_path, events=200, users=20, items=30)
    assert main(["synth", str(tmp_path), "--events", "200"]) == 1
    assert capsys.readouterr().err == (
        f"hypertower: cannot write {tmp_path / name}: No space left on device.\n")


def test_an_unwritable_target_is_known_before_the_data_are_drawn(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("hypertower.synth.make_world", None)  # drawing would end in a TypeError
    assert main(["synth", str(tmp_path / "file" / "out")]) == 1
    assert capsys.readouterr().err == (
        f"hypertower: cannot write {tmp_path}/file/out: Not a directory.\n")
