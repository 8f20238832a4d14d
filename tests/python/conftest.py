"""One small model for all tests of the package, trained once on data with a known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hypertower as ht
from hypertower.synth import synth

TRAINING = {"training.epochs": 3, "training.refit": False}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder written by `synth`: 4,000 events, 100 people, 60 items."""
    folder = tmp_path_factory.mktemp("world")
    synth(folder, events=4_000, users=100, items=60)
    return folder


@pytest.fixture(scope="session")
def truth(world: Path) -> dict[str, Any]:
    return json.loads((world / "truth.json").read_text())


@pytest.fixture(scope="session")
def fitted(world: Path) -> ht.Recommender:
    return ht.Recommender.from_config(world / "config.toml", overrides=TRAINING).fit(progress=False)


@pytest.fixture(scope="session")
def saved(fitted: ht.Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory, with people."""
    path = tmp_path_factory.mktemp("models") / "world"
    fitted.save_pretrained(path, with_history=True)
    return path


@pytest.fixture
def rec(saved: Path) -> ht.Recommender:
    """A fresh copy: a test may post events to it."""
    return ht.Recommender.from_pretrained(saved)
