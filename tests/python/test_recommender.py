"""The recommender from Python: answers, live events, filters, files."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

import hypertower as ht

MOMENT = {"hour": 21, "weather": "rain"}


def test_shapes_types_and_order(rec: ht.Recommender) -> None:
    ids, scores = rec.recommend([{"user": "1", "context": MOMENT}, {}], k=7)
    assert ids.shape == scores.shape == (2, 7)
    assert scores.dtype == np.float32
    assert all(isinstance(i, int) for i in ids[0])  # ids go out as they came in
    assert (np.diff(scores, axis=1) <= 0).all()


def test_scores_are_products_of_the_two_encodings(rec: ht.Recommender) -> None:
    for who in ({}, {"user": "5"}):  # of the second one the model remembers what it did
        request = [{**who, "context": MOMENT}]
        ids, scores = rec.recommend(request, k=5, exclude_seen=False)
        q, v = rec.encode_query(request), rec.encode_item(list(ids[0]))
        assert q.shape == (1, v.shape[1]) and q.dtype == np.float32
        if who:
            assert (scores > q @ v.T - 1e-4).all()
        else:
            np.testing.assert_allclose(q @ v.T, scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(rec.score(request, [list(ids[0])]), scores)
        np.testing.assert_array_equal(rec.score(request, [ids[0][0]]), scores[:, 0])


def test_context_changes_the_answer(rec: ht.Recommender) -> None:
    ids, _ = rec.recommend([{"user": "1", "context": {"hour": 3, "weather": "snow"}},
                            {"user": "1", "context": {"hour": 15, "weather": "sun"}}], k=10)
    assert list(ids[0]) != list(ids[1])


def test_time_gives_the_hour_unless_context_does(rec: ht.Recommender) -> None:
    when = datetime.datetime(2024, 5, 1, 21, 30, tzinfo=datetime.UTC)
    by_time, by_seconds, by_context = rec.encode_query([
        {"time": when, "context": {"weather": "rain"}},
        {"time": when.timestamp(), "context": {"weather": "rain"}},
        {"time": 0, "context": MOMENT},
    ])
    np.testing.assert_array_equal(by_time, by_seconds)
    np.testing.assert_array_equal(by_time, by_context)
    naive = when.replace(tzinfo=None)  # UTC
    for time in [naive, *(np.datetime64(naive, unit) for unit in ("s", "ms", "us", "ns"))]:
        vector = rec.encode_query([{"time": time, "context": {"weather": "rain"}}])[0]
        np.testing.assert_array_equal(vector, by_time)
    rec.observe([{"user": "clock", "item": 4, "time": np.datetime64(time, unit)} for time, unit in
                 [("2024-05-01T21:30:00.25", "ns"), ("2024-05-02", "D"), ("NaT", "s")]])
    times = [event["time"] for event in rec._people.find("clock")["history"]]
    assert times[:2] == [when.timestamp() + 0.25, when.timestamp() + 2.5 * 3600]
    assert times[2] > times[1]  # no time: now


def test_observe_changes_the_next_answer(rec: ht.Recommender) -> None:
    request = [{"user": "somebody new", "context": MOMENT}]
    before, _ = rec.recommend(request, k=10, exclude_seen=False)
    event = {"user": "somebody new", "item": int(before[0][-1]), "id": "e1"}
    assert rec.observe([event]) == 1
    assert rec.observe([event]) == 0  # the same event again
    after, _ = rec.recommend(request, k=10, exclude_seen=False)
    assert list(before[0]) != list(after[0])
    unseen, _ = rec.recommend(request, k=60, exclude_seen=True)
    assert before[0][-1] not in unseen[0] and unseen[0][-1] is None


def test_history_replaces_the_stored_one(rec: ht.Recommender) -> None:
    with_history = {"user": "1", "history": [{"item": 4}, {"item": "7"}], "context": MOMENT}
    anonymous = {"history": [{"item": 4}, {"item": 7}], "context": MOMENT}
    a, b = rec.encode_query([with_history, anonymous])
    stored = rec.encode_query([{"user": "1", "context": MOMENT}])[0]
    assert not np.array_equal(a, stored)
    assert not np.array_equal(b, stored)


def test_features_of_an_unknown_person(rec: ht.Recommender) -> None:
    young, old = rec.encode_query([{"features": {"age": 20, "segment": "s1"}},
                                   {"features": {"age": 70, "segment": "s1"}}])
    assert not np.array_equal(young, old)


@pytest.mark.parametrize("where", [
    {"category": ["c1", "c2"]},
    {"category": "c3"},
    {"price": {"min": 5, "max": 12}},
    {"not": {"category": ["c1", "c2", "c3", "c4"]}},
    {"any": [{"category": ["c5"]}, {"price": {"max": 3}}]},
])
def test_where_is_an_exact_prefilter(rec: ht.Recommender, world: Path, where: dict) -> None:
    import pyarrow.csv as csv

    items = {row["item_id"]: row for row in csv.read_csv(world / "items.csv.gz").to_pylist()}

    def passes(row: dict, w: dict) -> bool:
        for key, value in w.items():
            if key == "not":
                ok = not passes(row, value)
            elif key == "any":
                ok = any(passes(row, v) for v in value)
            elif isinstance(value, dict):
                ok = value.get("min", -1e9) <= row[key] <= value.get("max", 1e9)
            else:
                ok = row[key] in ([value] if isinstance(value, str) else value)
            if not ok:
                return False
        return True

    ids, _ = rec.recommend([{"context": MOMENT}], k=60, where=where)
    want = {i for i, row in items.items() if passes(row, where)}
    assert {i for i in ids[0] if i is not None} == want & set(rec.item_ids_)
    inside, _ = rec.recommend([{"context": MOMENT, "where": where}], k=60)
    assert list(inside[0]) == list(ids[0])


def test_everything_filtered_out_is_an_empty_answer(rec: ht.Recommender) -> None:
    ids, scores = rec.recommend([{}], k=3, where={"category": ["no such"]})
    assert ids.tolist() == [[None, None, None]] and np.isneginf(scores).all()


def test_similar_items_leave_out_the_item(rec: ht.Recommender) -> None:
    ids, scores = rec.similar_items([5, "6"], k=10)
    assert ids.shape == (2, 10) and 5 not in ids[0] and 6 not in ids[1]
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_new_item_needs_only_its_features(rec: ht.Recommender) -> None:
    v = rec.encode_item([{"category": "c1", "price": 9.5}, {"item": 5}, 5])
    assert np.isfinite(v).all()
    np.testing.assert_array_equal(v[1], v[2])


def test_save_and_load_keep_every_bit(fitted: ht.Recommender, tmp_path: Path) -> None:
    requests = [{"user": str(u), "context": MOMENT} for u in range(10)]
    fitted.save_pretrained(tmp_path / "with", with_history=True)
    again = ht.Recommender.from_pretrained(tmp_path / "with")
    for a, b in zip(fitted.recommend(requests), again.recommend(requests), strict=True):
        assert (a == b).all()
    fitted.save_pretrained(tmp_path / "without")
    assert not (tmp_path / "without" / "people.jsonl").exists()
    stranger = ht.Recommender.from_pretrained(tmp_path / "without")
    anonymous = stranger.encode_query([{"user": "1", "context": MOMENT}, {"context": MOMENT}])
    np.testing.assert_array_equal(anonymous[0], anonymous[1])


def test_inspect_does_not_load(saved: Path) -> None:
    facts = ht.inspect(saved)
    assert facts["format_version"] == 1
    assert json.dumps(facts)


def test_evaluate_has_metrics_and_baselines(fitted: ht.Recommender, world: Path) -> None:
    held_back = fitted.evaluate()
    assert 0 < held_back["recall@10"] <= 1 and "popularity" in held_back["baselines"]
    again = fitted.evaluate(str(world / "events.csv.gz"), by="context.weather")
    assert set(again["by"]) == {"sun", "cloud", "rain", "snow"}
    assert set(held_back["baselines"]) == {"popularity", "recent_popularity", "item_knn"}
    assert set(again["baselines"]) == {"popularity", "recent_popularity"}


def test_unknown_fields_of_events_and_histories(rec: ht.Recommender) -> None:
    good = {"user": "somebody new", "item": 4}
    bad = {"user": "somebody new", "item": 5, "context": {"wether": "rain"}}
    with pytest.raises(ht.SchemaError) as refused:
        rec.observe([good, bad])
    assert str(refused.value) == (
        "events[1].context.wether: unknown field. Did you mean 'weather'?")
    assert refused.value.field == "events[1].context.wether"
    assert rec._people.find("somebody new") is None  # all of the events or none
    with pytest.raises(ht.SchemaError) as refused:
        rec.recommend([{}, {"history": [{"item": 4, "context": {"wether": "rain"}}]}])
    assert str(refused.value) == (
        "requests[1].history[0].context.wether: unknown field. Did you mean 'weather'?")


def test_live_events_count_by_their_time(rec: ht.Recommender) -> None:
    for order in (1, -1):
        user = f"new {order}"
        events = [{"user": user, "item": 4, "time": 1000}, {"user": user, "item": 7, "time": 2000}]
        for event in events[::order]:
            rec.observe([event])
    first, second = rec.encode_query([{"user": f"new {order}", "context": MOMENT, "time": 3000}
                                      for order in (1, -1)])
    np.testing.assert_array_equal(first, second)
    early, given = rec.encode_query([  # whatever the time of the request
        {"user": "new 1", "context": MOMENT, "time": 2000},
        {"history": [{"item": 4}, {"item": 7}], "context": MOMENT, "time": 2000},
    ])
    np.testing.assert_array_equal(early, given)


def test_messages(rec: ht.Recommender) -> None:
    with pytest.raises(ht.SchemaError, match=r"requests\[1\]\.context\.huor.*Did you mean 'hour'"):
        rec.recommend([{}, {"context": {"huor": 3}}])
    with pytest.raises(ht.SchemaError) as refused:
        rec.recommend([{"context": {"huor": 3}}])
    assert str(refused.value) == (
        "requests[0].context.huor: unknown field. Did you mean 'hour'?")
    assert refused.value.field == "requests[0].context.huor"
    with pytest.raises(ht.SchemaError, match=r"^requests\[0\]\.contxt: .*Did you mean 'context'"):
        rec.recommend([{"contxt": {}}])
    with pytest.raises(ht.SchemaError, match=r"one of them goes into a list: \[\{...\}\]"):
        rec._core.recommend({"user": "1"}, 3, None, None, None, 1)
    with pytest.raises(ht.HypertowerError, match="k"):
        rec.recommend([{}], k=0)
    with pytest.raises(ht.SchemaError, match="Did you mean 'category'"):
        rec.recommend([{}], where={"catgory": ["c1"]})
    with pytest.raises(ht.HypertowerError, match="no such item"):
        rec.similar_items(["no such item"])
    with pytest.raises(ht.NotFittedError, match="call fit, or load one with from_pretrained"):
        ht.Recommender().recommend([{}])
    with pytest.raises(ht.HypertowerError, match="context.hour"):
        rec.recommend([{"context": {"hour": [1.5, 2.5]}}])
