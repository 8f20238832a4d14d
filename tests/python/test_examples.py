"""The examples do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "python" / "examples"


def test_train_towers_beats_the_most_popular_items() -> None:
    ours, popular = runpy.run_path(str(EXAMPLES / "train_towers.py"))["main"](epochs=3)
    assert ours > 1.1 * popular
