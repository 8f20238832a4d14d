"""Every kind of table gives the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

import hypertower as ht
from hypertower.data import to_events, to_source

SETTINGS = {"training.epochs": 1, "training.refit": False}


@pytest.fixture(scope="module")
def from_files(world: Path) -> np.ndarray:
    return vectors(world, {})


def vectors(world: Path, sources: dict) -> np.ndarray:
    rec = ht.Recommender.from_config(world / "config.toml", overrides=SETTINGS)
    rec.fit(**sources, progress=False)
    return rec.encode_query([{"user": "3", "context": {"hour": 9}}, {}])


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "dict", "parquet"])
def test_same_bits_from_every_source(world: Path, from_files: np.ndarray, kind: str,
                                     tmp_path: Path) -> None:
    tables = {n: csv.read_csv(world / f"{n}.csv.gz") for n in ("events", "items", "users")}
    if kind == "pandas":
        pytest.importorskip("pandas")
        tables = {n: t.to_pandas() for n, t in tables.items()}
    elif kind == "polars":
        polars = pytest.importorskip("polars")
        tables = {n: polars.from_arrow(t) for n, t in tables.items()}
    elif kind == "dict":
        tables = {n: {c: t[c].to_numpy(zero_copy_only=False) for c in t.column_names}
                  for n, t in tables.items()}
    elif kind == "parquet":
        for n, t in tables.items():
            parquet.write_table(t, tmp_path / f"{n}.parquet")
        tables = {n: tmp_path / f"{n}.parquet" for n in tables}
    np.testing.assert_array_equal(vectors(world, tables), from_files)


def test_to_source_messages() -> None:
    with pytest.raises(ht.ArgumentError, match="events: expected columns of one length"):
        to_source({"a": [1], "b": [1, 2]}, "events")
    with pytest.raises(ht.ArgumentError, match="expected a path, a pyarrow.Table.*got int"):
        to_source(3, "events")


def test_to_events_takes_one_dict_a_list_or_a_table() -> None:
    event = {"user": "1", "item": "2"}
    assert to_events(event) == to_events([event]) == [event]
    assert to_events({"user": ["1"], "item": ["2"], "kind": [None]}) == [event]
    assert to_events({"user": ["1"], "item": ["2"], "price": [float("nan")]}) == [event]
    with pytest.raises(ht.ArgumentError, match="bulk history belongs to fit"):
        to_events("events.csv")


def test_callbacks_see_epochs_and_can_stop(world: Path) -> None:
    seen = []
    rec = ht.Recommender.from_config(world / "config.toml", overrides={"training.refit": False})
    rec.fit(progress=False, callbacks=[lambda e: seen.append(e) or e["event"] != "epoch"])
    epochs = [e for e in seen if e["event"] == "epoch"]
    assert len(epochs) == 1 and epochs[0]["epoch"] == 1
    assert rec.recommend([{}])[0].shape == (1, 10)
