"""What models remember beside their towers: what follows what, and people's own past by moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import hypertower as ht

QUICK = {"training.epochs": 2, "training.refit": False, "evaluation.baselines": False}
DAY = 86_400


def fit(folder: Path, events: dict[str, Any], context: str = "",
        **overrides: Any) -> ht.Recommender:
    config = folder / "config.toml"
    config.write_text('name = "memory"\n[columns]\nuser = "user"\nitem = "item"\ntime = "time"\n'
                      + context)
    rec = ht.Recommender.from_config(config, overrides={**QUICK, **overrides})
    return rec.fit(events, progress=False)


HOURS = range(8, 20)


def habits_of_people(rng: np.random.Generator) -> dict[str, Any]:
    """120 people with a thing of their own for each of twelve hours, on ten days; now and then
    something else."""
    user, item, time = [], [], []
    for u in range(120):
        things = rng.integers(0, 1000, len(HOURS))
        for day in range(10):
            for hour, thing in zip(HOURS, things, strict=True):
                user.append(u)
                item.append(thing if rng.random() < 0.85 else rng.integers(0, 1000))
                time.append(day * DAY + hour * 3600 + u)
    return {"user": np.array(user), "item": np.array(item), "time": np.array(time)}


def test_what_people_do_at_such_an_hour_comes_first(tmp_path: Path) -> None:
    events = habits_of_people(np.random.default_rng(1))
    hour = '[context.hour]\nfrom = "time"\n'
    rec = fit(tmp_path, events, hour)
    assert rec.report_["memory"]["habits"] > 0
    without = fit(tmp_path, events, hour, **{"training.habits": "off"})
    assert without.report_["memory"]["habits"] == 0
    test, plain = rec.report_["test"]["ndcg@10"], without.report_["test"]["ndcg@10"]
    assert test > 0.83 and test > plain + 0.03

    # The habit of the hour, and the same from the directory with its people.
    rec.save_pretrained(tmp_path / "model", with_history=True)
    again = ht.Recommender.from_pretrained(tmp_path / "model")
    right = 0
    for u in range(20):
        mine = events["user"] == u
        own, times = events["item"][mine], events["time"][mine]
        for i, hour_now in enumerate(HOURS):
            past = 9 * len(HOURS) + i  # events before this hour of the last day
            history = [{"item": int(item), "time": int(time)}
                       for item, time in zip(own[:past], times[:past], strict=True)]
            request = [{"history": history, "context": {"hour": hour_now},
                        "time": int(times[past])}]
            ids, scores = rec.recommend(request, k=3)
            np.testing.assert_array_equal(again.recommend(request, k=3)[0], ids)
            np.testing.assert_array_equal(again.score(request, [list(ids[0])]), scores)
            right += int(ids[0][0]) == np.bincount(own[i::len(HOURS)]).argmax()
    assert right >= 0.9 * 20 * len(HOURS)
    stored = [{"user": "3", "context": {"hour": 9}, "time": 21 * DAY}]
    np.testing.assert_array_equal(again.recommend(stored)[1], rec.recommend(stored)[1])
    # What has been had can still be left out.
    fresh = {"user": "7", "context": {"hour": 8}, "time": 21 * DAY}
    seen = {int(i) for i in events["item"][events["user"] == 7]}
    ids, _ = rec.recommend([fresh], k=10, exclude_seen=True)
    assert not seen & {int(i) for i in ids[0]}


def test_what_follows_the_latest_item_comes_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    after = rng.permutation(200)  # of each item one that usually follows
    user, item = [], []
    for u in range(400):
        at = rng.integers(200)
        for _ in range(8):
            user.append(u)
            item.append(at)
            at = after[at] if rng.random() < 0.8 else rng.integers(200)
    events = {"user": np.array(user), "item": np.array(item), "time": np.arange(len(user))}
    split = {"data.split": "last"}
    rec = fit(tmp_path, events, **split)
    assert rec.report_["memory"]["followers"] > 0
    plain = fit(tmp_path, events, **split, **{"training.followers": "off"})
    assert rec.report_["test"]["ndcg@10"] > plain.report_["test"]["ndcg@10"]
    ids, _ = rec.recommend([{"history": [{"item": i}]} for i in range(200)], k=1,
                           exclude_seen=False)
    assert np.mean(ids[:, 0].astype(int) == after) > 0.9
