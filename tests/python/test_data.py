"""Every kind of table gives the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
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


def as_kind(table: pa.Table, kind: str) -> object:
    if kind == "pandas":
        pytest.importorskip("pandas")
        return table.to_pandas()
    if kind == "polars":
        return pytest.importorskip("polars").from_arrow(table)
    if kind == "dict":
        return {c: table[c].to_numpy(zero_copy_only=False) for c in table.column_names}
    return table if kind == "arrow" else table.to_pylist()


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars", "dict", "list"])
def test_items_are_encoded_from_the_tables_that_fit_takes(rec: ht.Recommender, world: Path,
                                                          kind: str) -> None:
    table = csv.read_csv(world / "items.csv.gz")
    encoded = rec.encode_item(as_kind(table, kind))
    np.testing.assert_allclose(encoded, rec.encode_item(table["item_id"].to_pylist()), atol=1e-5)
    only_ids = rec.encode_item(as_kind(table.select(["item_id"]), kind))
    np.testing.assert_array_equal(only_ids, rec.encode_item(table["item_id"]))
    new = rec.encode_item(as_kind(table.select(["category", "price"]).slice(0, 2), kind))
    assert new.shape == (2, encoded.shape[1])


def test_a_column_that_no_feature_names_is_left_alone(rec: ht.Recommender) -> None:
    table = {"item_id": [7], "category": ["c1"], "price": [3.5], "title": ["Seven"]}
    plain = {"item": 7, "category": "c1", "price": 3.5}
    np.testing.assert_array_equal(rec.encode_item(table), rec.encode_item([plain]))


@pytest.mark.parametrize(("items", "sentence"), [
    ("50", "items: expected a list of ids, got '50'; write ['50']."),
    (50, "items: expected a list of ids, got 50; write [50]."),
    ({"item": 50}, "items: expected a table, a list of dicts or a list of ids, got one dict; "
                   "write [{...}]."),
    ([[1]], "items[0]: expected an item id, got [1]."),
    ({"item_id": [1], "prize": [2.0], "category": ["c1"]},
     "items: no column 'price', which item.price names. Did you mean 'prize'?"),
    ({"id": [1]}, "items: no column 'item_id', which columns.item names. Known: id."),
])
def test_items_that_are_none(rec: ht.Recommender, items: object, sentence: str) -> None:
    with pytest.raises(ht.HypertowerError) as error:
        rec.encode_item(items)
    assert str(error.value) == sentence
