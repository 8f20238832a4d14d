"""Broken data and configs: the exact sentence a person reads."""

from __future__ import annotations

import pytest

from .conftest import Shop


def test_missing_file(shop: Shop) -> None:
    (shop.folder / "events.csv").unlink()
    assert shop.refusal() == (
        f"File 'events.csv' (events) does not exist; looked in the folder '{shop.folder}'. "
        "--data DIR names another folder.")


def test_empty_file(shop: Shop) -> None:
    shop.write("events.csv", "")
    assert shop.refusal() == (
        "events.csv: the file is empty; a header line with column names was expected.")


def test_header_without_rows(shop: Shop) -> None:
    shop.write("events.csv", "user,item,time,weather\n")
    assert shop.refusal() == "events.csv: has column names but no rows."


def test_wrong_separator(shop: Shop) -> None:
    shop.write("events.csv", (shop.folder / "events.csv").read_text().replace(",", ";"))
    assert shop.refusal() == (
        "events.csv: expected columns separated by ',', got the single column "
        "'user;item;time;weather'; set separator = \";\" under [data].")


def test_column_that_the_data_lacks(shop: Shop) -> None:
    shop.edit("config.toml", 'item = "item"', 'item = "itm"')
    assert shop.refusal() == (
        "items.csv: no column 'itm', which columns.item names. Did you mean 'item'?")


def test_wrong_type_in_a_time(shop: Shop) -> None:
    shop.edit("events.csv", "u3,i6,1180", "u3,i6,yesterday")
    assert shop.refusal() == (
        "events.csv:5: column 'time' must be a time (seconds or ISO 8601), got 'yesterday'.")


def test_missing_time(shop: Shop) -> None:
    shop.edit("events.csv", "u3,i6,1180", "u3,i6,")
    assert shop.refusal() == (
        "events.csv:5: column 'time' must be a time (seconds or ISO 8601), got an empty cell.")


def test_no_time_column_where_the_split_needs_one(shop: Shop) -> None:
    shop.edit("config.toml", 'time = "time"\n', "")
    assert shop.refusal() == (
        'data.split = "time" needs the time of every event: name its column as time under '
        '[columns], or use split = "last".')


def test_wrong_type_in_a_number(shop: Shop) -> None:
    shop.edit("items.csv", "i3,b0,3.5", "i3,b0,cheap")
    assert shop.refusal() == (
        "items.csv:5: column 'price' (item.price) must hold numbers, got 'cheap'; 1 of its 15 "
        'filled cells are no numbers. Clean them or set kind = "category".')


@pytest.mark.parametrize(("cell", "word"), [("-inf", "-infinity"), ("inf", "infinity")])
def test_not_a_finite_number(shop: Shop, cell: str, word: str) -> None:
    shop.edit("items.csv", "i3,b0,3.5", f"i3,b0,{cell}")
    assert shop.refusal() == (
        f"items.csv:5, column 'price': item.price: expected a finite number, got {word}; leave it "
        "empty where it is not known.")


def test_duplicate_items(shop: Shop) -> None:
    shop.edit("items.csv", "i4,b1", "i3,b1")
    assert shop.refusal() == (
        "items.csv:6: item 'i3' came before, at items.csv:5; ids must be distinct.")


@pytest.mark.parametrize(("option", "sentence"), [
    ("keep", 'kept, without features (data.unknown_items = "keep").'),
    ("drop", 'dropped (data.unknown_items = "drop").'),
])
def test_events_of_unknown_items(shop: Shop, option: str, sentence: str) -> None:
    shop.edit("events.csv", "u3,i6,", "u3,new,")
    done = shop.train("--set", f"data.unknown_items={option}")
    assert done.returncode == 0, done.stderr
    assert sentence in done.stderr


def test_an_outcome_as_an_input(shop: Shop) -> None:
    shop.edit("config.toml", "[context.weather]", "[outcome.weather]\n[context.weather]")
    assert shop.refusal() == (
        "config.toml:15: context.weather reads the outcome 'weather', which is known only after "
        "the event, so it cannot be an input; remove [context.weather] or [outcome.weather].")


def test_one_user_is_said_and_trained(shop: Shop) -> None:
    shop.write_events([("u1", f"i{i % 15}", str(1000 + i)) for i in range(60)])
    done = shop.train()
    assert done.returncode == 0, done.stderr
    assert ("All 60 events are of the one user 'u1': what is learned holds for that user alone."
            in done.stderr)


def test_one_item_cannot_be_ranked(shop: Shop) -> None:
    shop.write_events([(f"u{i % 9}", "i1", str(1000 + i)) for i in range(60)])
    shop.write_items([("i1", "b1", "2")])
    assert shop.refusal() == (
        "events.csv: all 60 events are about the one item 'i1'; ranking needs at least two.")


def test_fewer_items_than_k(shop: Shop) -> None:
    shop.write_events([(f"u{i % 9}", f"i{i % 5}", str(1000 + i)) for i in range(60)])
    shop.write_items([(f"i{i}", "b1", f"{i}") for i in range(5)])
    assert shop.train().returncode == 0
    done = shop.run("recommend", "model", "-k", "9", "--no-exclude-seen")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 5


def test_everything_filtered_out_is_an_empty_answer(shop: Shop) -> None:
    assert shop.train().returncode == 0
    done = shop.run("recommend", "model", "--where", '{"brand": ["none"]}', "--json")
    assert done.returncode == 0 and done.stdout.strip() == "[]"


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ("[item.brand]\nkind", "[item.brand]\nkindd",
     "config.toml:11: unknown key 'kindd' in [item.brand]. Did you mean 'kind'?"),
    ("[data]", "[dat]", "config.toml:2: unknown section [dat]. Did you mean 'data'?"),
    ("[data]", "[data",
     "config.toml:2: not valid TOML: Error while parsing table header: expected ']', saw '\\n'"),
])
def test_config_mistakes(shop: Shop, old: str, new: str, sentence: str) -> None:
    shop.edit("config.toml", old, new)
    assert shop.refusal() == sentence


@pytest.mark.parametrize(("override", "sentence"), [
    ("training.lrr=3",
     "the override of training.lrr: unknown key 'lrr' in [training]. Did you mean 'lr'?"),
    ("training.lr=fast", "the override of training.lr: expected a number, got text 'fast'"),
])
def test_overrides(shop: Shop, override: str, sentence: str) -> None:
    assert shop.refusal("--set", override) == sentence


def test_wrong_usage_is_exit_code_two(shop: Shop) -> None:
    assert shop.train("--nonsense").returncode == 2
