"""ht.Schema: what it accepts, and its sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

import hypertower as ht

COLUMNS = {"user": "u", "item": "i", "time": "t"}


def test_short_and_long_form_are_the_same() -> None:
    short = ht.Schema(columns=COLUMNS, user={"gender": "category"})
    long = ht.Schema(columns=COLUMNS, user={"gender": {"kind": "category"}})
    assert short == long


def test_describe_fills_in_defaults() -> None:
    described = ht.Schema(columns=COLUMNS, item={"year": "number"},
                          context={"hour": {"from": "time"}}).describe()
    names = [f["name"] for f in described["features"]]
    assert names == ["hour", "year"]


def test_from_config_reads_the_schema_part(world: Path) -> None:
    schema = ht.Schema.from_config(str(world / "config.toml"))
    assert set(schema.to_dict()) == {"columns", "user", "item", "context"}


@pytest.mark.parametrize(("arguments", "words"), [
    ({"user": {"gender": "categroy"}}, "Did you mean 'category'"),
    ({"user": {"gender": {"kind": "category", "sepparator": "|"}}}, "Did you mean 'separator'"),
    ({"columns": {"usr": "u"}}, "Did you mean 'user'"),
    ({"context": {"hour": {"from": "time"}}, "columns": {"user": "u", "item": "i"}}, "time"),
    ({"context": {"mood": "category"}, "outcome": {"mood": {}}}, "mood"),
])
def test_mistakes_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(ht.SchemaError, match=words):
        ht.Schema(**{"columns": COLUMNS, **arguments})
