"""ht.ops.EmbeddingTables: tables whose optimizer is part of the backward pass."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import hypertower as ht

torch = pytest.importorskip("torch")


def bags_of(rows: int, bags: int, seed: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 6, (bags,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return torch.randint(rows, (int(offsets[-1]),), generator=generator), offsets


def in_torch(weight: Any, mode: str) -> Any:
    return torch.nn.EmbeddingBag.from_pretrained(weight.clone(), freeze=False, mode=mode,
                                                 sparse=True, include_last_offset=True)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_steps_are_those_of_torch(mode: str) -> None:
    tables = ht.ops.EmbeddingTables({"item": (50, 12), "genre": (7, 3)}, mode=mode, lr=0.1,
                                    eps=1e-10, optimizer="adagrad", seed=3)
    peers = {name: in_torch(tables.weight(name), mode) for name in ("item", "genre")}
    rules = [torch.optim.Adagrad(p.parameters(), lr=0.1) for p in peers.values()]
    for step in range(4):
        bags = {"item": bags_of(50, 20, step), "genre": bags_of(7, 5, 100 + step)}
        vectors = tables(bags)
        expected = {name: peers[name](*bags[name]) for name in bags}
        for name in bags:
            torch.testing.assert_close(vectors[name], expected[name])
        for found in (vectors, expected):
            (found["item"].square().sum() + found["genre"].exp().sum()).backward()
        for rule in rules:
            rule.step()
            rule.zero_grad()
    for name, peer in peers.items():
        torch.testing.assert_close(tables.weight(name), peer.weight.detach())


def test_features_may_share_a_table() -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)}, features={"seen": "item", "next": "item"},
                                    optimizer="sgd", lr=1.0)
    before = tables.weight("item").clone()
    ids, offsets = bags_of(30, 6, 1)
    vectors = tables({"seen": (ids, offsets), "next": torch.tensor([[3], [3]])})
    assert list(vectors) == ["seen", "next"]
    (vectors["seen"].sum() + vectors["next"].sum()).backward()
    counts = torch.bincount(ids, minlength=30).float()
    counts[3] += 2
    torch.testing.assert_close(tables.weight("item"), before - counts[:, None])


def test_nothing_changes_without_a_gradient() -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)})
    before = tables.weight("item").clone()
    with torch.no_grad():
        assert not tables({"item": bags_of(30, 6, 1)})["item"].requires_grad
    assert torch.equal(tables.weight("item"), before)
    assert not list(tables.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "rowwise_adagrad", "adagrad", "adam"])
def test_state_goes_on_where_it_was_saved(optimizer: str) -> None:
    def train(tables: Any, steps: range) -> None:
        for step in steps:
            tables({"item": bags_of(30, 6, step)})["item"].square().sum().backward()

    whole, first = (ht.ops.EmbeddingTables({"item": (30, 4)}, optimizer=optimizer, lr=0.1, seed=s)
                    for s in (5, 5))
    train(whole, range(6))
    train(first, range(3))
    second = ht.ops.EmbeddingTables({"item": (30, 4)}, optimizer=optimizer, lr=0.1, seed=99)
    second.load_state_dict(first.state_dict())
    train(second, range(3, 6))
    assert second.steps == 6
    assert torch.equal(second.weight("item"), whole.weight("item"))


def test_copies_are_tables_of_their_own() -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)}, optimizer="adam", lr=0.1)
    tables({"item": torch.tensor([[1, 2]])})["item"].sum().backward()
    copies = [copy.deepcopy(tables), pickle.loads(pickle.dumps(tables))]
    before = tables.weight("item").clone()
    for other in copies:
        other({"item": torch.tensor([[1, 2]])})["item"].sum().backward()
        assert other.steps == 2
        assert not torch.equal(other.weight("item"), before)
    assert torch.equal(copies[0].weight("item"), copies[1].weight("item"))
    assert torch.equal(tables.weight("item"), before)
    state = {name: value.clone() if torch.is_tensor(value) else value
             for name, value in copies[0].state_dict().items()}
    tables.load_state_dict(state, assign=True)
    torch.testing.assert_close(tables({"item": torch.tensor([[1]])})["item"][0],
                               copies[0].weight("item")[1])


def test_rows_of_16_bits_follow_those_of_32() -> None:
    exact, rounded = (ht.ops.EmbeddingTables({"item": (40, 16)}, lr=0.05, dtype=dtype, seed=2)
                      for dtype in (torch.float32, torch.bfloat16))
    for step in range(20):
        for tables in (exact, rounded):
            tables({"item": bags_of(40, 10, step)})["item"].sum().backward()
    assert rounded.weight("item").dtype == torch.bfloat16
    torch.testing.assert_close(rounded.weight("item").float(), exact.weight("item"), rtol=0,
                               atol=0.03)


def test_compiled_models_may_hold_them() -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)}, optimizer="sgd", lr=0.5)
    linear = torch.nn.Linear(4, 2)

    def model(ids: Any) -> Any:
        return linear(tables({"item": ids})["item"]).sum()

    ids = torch.tensor([[1, 2], [3, 3]])
    expected = model(ids)
    torch.testing.assert_close(torch.compile(model, backend="eager")(ids), expected)


@pytest.mark.parametrize(("bags", "message"), [
    ({"itm": torch.tensor([[1]])}, "unknown feature 'itm'; known are 'item'"),
    ({"item": torch.tensor([[1, 31]])}, "feature 'item': id 31 in bag 0, position 1"),
    ({"item": torch.tensor([[-1]])}, "feature 'item': id -1 in bag 0, position 0"),
    ({"item": (torch.tensor([1, 2]), torch.tensor([0, 3]))}, "feature 'item'"),
    ({"item": (1, 2, 3, 4)}, "feature 'item' expects ids, (ids, offsets) or"),
])
def test_errors_name_the_feature_and_change_nothing(bags: dict[str, Any], message: str) -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)})
    before = tables.weight("item").clone()
    with pytest.raises(ht.HypertowerError) as error:
        tables(bags)
    assert message in str(error.value)
    assert torch.equal(tables.weight("item"), before)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    tables = ht.ops.EmbeddingTables({"item": (10, 4), "genre": (3, 4)})
    before = {name: value.clone() for name, value in tables.state_dict().items()
              if isinstance(value, torch.Tensor)}
    vectors = tables({"item": torch.tensor([[1], [2]]), "genre": torch.tensor([[0], [1]])})
    with pytest.raises(ht.ArgumentError, match="feature 'genre': expected a finite gradient, got "
                                               "infinity in bag 1, column 0; nothing has been"):
        (vectors["item"].sum() + vectors["genre"][1, 0] * float("inf")).backward()
    assert all(torch.equal(tables.state_dict()[name], value) for name, value in before.items())
    assert tables.steps == 0


def test_converted_tables_are_refused() -> None:
    tables = ht.ops.EmbeddingTables({"item": (30, 4)})
    tables({"item": torch.tensor([[1]])})
    for convert in (torch.nn.Module.bfloat16, torch.nn.Module.double):
        with pytest.raises(ht.ArgumentError, match="expected rows of table 'item' as float32"):
            convert(tables)({"item": torch.tensor([[1]])})


def step_on(tables: Any, ids: Any, gradient: float = 1.0) -> Any:
    vectors = tables({"item": ids})["item"]
    (gradient * vectors).sum().backward()
    return vectors.detach()


def test_dynamic_ids_train_as_rows_would() -> None:
    settings: dict[str, Any] = {"mode": "mean", "lr": 0.1, "optimizer": "adagrad"}
    dynamic = ht.ops.EmbeddingTables({"item": (200, 6)}, dynamic={"item": {}}, **settings)
    fixed = ht.ops.EmbeddingTables({"item": (224, 6)}, **settings)
    assert dynamic.weight("item").shape == (224, 6), "whole buckets of 32 rows"
    rows: dict[int, int] = {}
    for step in range(20):
        places, offsets = bags_of(100, 30, step)
        ids = places * 982_451_653 - 2**62  # any 64-bit numbers
        vectors = dynamic({"item": (ids, offsets)})["item"]
        known = dynamic.vocabulary("item")
        new = dict(zip(known["ids"].tolist(), known["rows"].tolist(), strict=True))
        for i, row in new.items():  # begin with what the dynamic table drew
            if i not in rows:
                fixed.weight("item")[row] = dynamic.weight("item")[row]
        assert rows.items() <= new.items(), "nobody's row changes"
        rows = new
        mapped = torch.tensor([rows[i] for i in ids.tolist()], dtype=torch.int64)
        same = fixed({"item": (mapped, offsets)})["item"]
        torch.testing.assert_close(vectors, same, rtol=0, atol=0)
        for out in (vectors, same):
            out.square().sum().backward()
        at = torch.tensor(sorted(rows.values()))
        torch.testing.assert_close(dynamic.weight("item")[at], fixed.weight("item")[at], rtol=0,
                                   atol=0)


def test_rare_ids_wait_and_add_nothing() -> None:
    tables = ht.ops.EmbeddingTables({"item": (64, 3)}, mode="mean",
                                    dynamic={"item": {"admit_after": 2}})
    assert torch.equal(step_on(tables, torch.tensor([[7], [8]])), torch.zeros(2, 3))
    vectors = step_on(tables, torch.tensor([[7, 9], [9, 10]]))
    known = tables.vocabulary("item")
    assert known["ids"].tolist() == [7, 9] and known["admitted"] == 2
    assert vectors.abs().min() > 0, "the mean of a bag is that of its known ids"
    tables.eval()
    frozen = tables.weight("item").clone()
    assert torch.equal(tables({"item": torch.tensor([[11], [11]])})["item"], torch.zeros(2, 3))
    with torch.no_grad():
        tables.train()({"item": torch.tensor([[11], [11]])})
    assert tables.vocabulary("item")["ids"].tolist() == [7, 9]
    assert torch.equal(tables.weight("item"), frozen)


@pytest.mark.parametrize("evict", ["least_recent", "least_frequent"])
def test_evicted_rows_begin_anew(evict: str) -> None:
    tables = ht.ops.EmbeddingTables({"item": (32, 4)}, dynamic={"item": {"evict": evict}}, lr=0.5)
    first = torch.arange(32).reshape(-1, 1)
    drawn = step_on(tables, first)
    for _ in range(3):
        step_on(tables, first[1:])
    step_on(tables, torch.tensor([[1000]]))
    known = tables.vocabulary("item")
    assert known["evicted"] == 1 and 0 not in known["ids"] and 1000 in known["ids"]
    back = step_on(tables, torch.tensor([[0]]))
    assert torch.equal(back[0], drawn[0]), "first weights are those of the id"
    row = known["rows"][known["ids"].tolist().index(5)]
    assert tables.state_dict()["state0_0"][row] > 3.9, "others keep their state"


def test_rows_wait_for_their_gradients() -> None:
    tables = ht.ops.EmbeddingTables({"item": (32, 4)}, dynamic={"item": {"evict": "least_recent"}})
    vectors = tables({"item": torch.arange(32).reshape(-1, 1)})["item"]
    stranger = tables({"item": torch.tensor([[77]])})["item"]
    assert torch.equal(stranger, torch.zeros(1, 4)) and tables.vocabulary("item")["failed"] == 1
    vectors.sum().backward()
    assert step_on(tables, torch.tensor([[77]])).abs().min() > 0


def test_a_vocabulary_is_saved_with_its_table(tmp_path: Any) -> None:
    def make() -> Any:
        return ht.ops.EmbeddingTables({"item": (64, 4)}, seed=3, dynamic={
            "item": {"admit_after": 2, "evict": "least_recent"}})

    tables = make()
    for step in range(10):
        step_on(tables, bags_of(90, 40, step))
    torch.save(tables.state_dict(), tmp_path / "tables.pt")
    loaded = make()
    loaded.load_state_dict(torch.load(tmp_path / "tables.pt", weights_only=True))
    for again in (loaded, copy.deepcopy(tables), pickle.loads(pickle.dumps(tables))):
        original = copy.deepcopy(tables)
        for step in range(10, 15):
            torch.testing.assert_close(step_on(again, bags_of(90, 40, step)),
                                       step_on(original, bags_of(90, 40, step)), rtol=0, atol=0)
        assert again.vocabulary("item")["ids"].tolist() == original.vocabulary(
            "item")["ids"].tolist()


def test_bad_offsets_of_dynamic_ids_are_named() -> None:
    tables = ht.ops.EmbeddingTables({"item": (32, 4)}, dynamic={"item": {"admit_after": 2}})
    with pytest.raises(ht.HypertowerError, match=r"feature 'item': offsets\[1\] is 9"):
        tables({"item": (torch.tensor([1, 2]), torch.tensor([0, 9]))})


@pytest.mark.parametrize(("dynamic", "message"), [
    ({"itm": {}}, "dynamic: unknown table 'itm'; known are 'item'"),
    ({"item": {"admit": 2}}, "dynamic: unknown option 'admit' of table 'item'; known are "),
    ({"item": {"admit_after": 0}}, "admit_after: expected at least 1, got 0"),
    ({"item": {"evict": "oldest"}}, "evict: expected one of 'none', 'least_recent', "),
])
def test_bad_settings_of_dynamic_tables(dynamic: dict[str, Any], message: str) -> None:
    with pytest.raises(ht.HypertowerError) as error:
        ht.ops.EmbeddingTables({"item": (32, 4)}, dynamic=dynamic)
    assert message in str(error.value)


def test_bad_settings() -> None:
    with pytest.raises(ht.ArgumentError, match="dtype: expected torch.float32"):
        ht.ops.EmbeddingTables({"item": (30, 4)}, dtype=torch.int8)
    with pytest.raises(ht.ArgumentError, match="features: feature 'a' expects a table 'b'"):
        ht.ops.EmbeddingTables({"item": (30, 4)}, features={"a": "b"})
    with pytest.raises(ht.HypertowerError, match="optimizer"):
        ht.ops.EmbeddingTables({"item": (30, 4)}, optimizer="momentum")
