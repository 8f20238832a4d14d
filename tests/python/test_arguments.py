"""First mistakes with the API: one sentence each, and nothing cut or wrapped in silence."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hypertower as ht

Q = np.eye(3, 4, dtype=np.float32)
X = np.eye(5, 4, dtype=np.float32)


def says(call: Callable[[], Any], sentence: str, kind: type = ht.ArgumentError) -> None:
    with pytest.raises(kind, match=f"^{re.escape(sentence)}$"):
        call()


@pytest.mark.parametrize(("requests", "sentence"), [
    ({"user": "196"}, "requests: expected a list of dicts, got one dict; write [{...}]."),
    ("196", "requests: expected a list of dicts, got text '196'; write [{\"user\": '196'}]."),
    (196, 'requests: expected a list of dicts, got 196; write [{"user": 196}].'),
    (["196"], "requests[0]: expected a dict, got text '196'; write {\"user\": '196'}."),
    ([{}, 3.5], "requests[1]: expected a dict, got 3.5."),
])
def test_requests(rec: ht.Recommender, requests: Any, sentence: str) -> None:
    says(lambda: rec.recommend(requests), sentence)
    says(lambda: rec.encode_query(requests), sentence)
    says(lambda: rec.score(requests, [3]), sentence)


def test_a_table_is_not_a_list_of_requests(rec: ht.Recommender) -> None:
    pd = pytest.importorskip("pandas")
    says(lambda: rec.recommend(pd.DataFrame({"user": [1]})),
         "requests: expected a list of dicts, got a DataFrame; write "
         'requests.to_dict("records").')


@pytest.mark.parametrize(("k", "sentence"), [
    (0, "k: expected at least 1, got 0."), (2.5, "k: expected an integer, got 2.5."),
    ("x", "k: expected an integer, got text 'x'."), (True, "k: expected an integer, got True."),
    (10**9, "k: expected at most 100000, got 1000000000."),
    (10**19, f"k: expected at most 100000, got {10**19}."),
])
def test_k(rec: ht.Recommender, k: Any, sentence: str) -> None:
    says(lambda: rec.recommend([{}], k=k), sentence)
    says(lambda: rec.similar_items([3], k=k), sentence)
    says(lambda: ht.topk(Q, X, k), sentence)
    says(lambda: ht.TopKIndex(X).search(Q, k), sentence)


def test_a_longer_k_is_padded(rec: ht.Recommender) -> None:
    ids, scores = rec.recommend([{}, {"user": 1}], k=500)
    assert ids.shape == scores.shape == (2, 500)
    assert ids[0, -1] is None and np.isneginf(scores[:, 400:]).all()


@pytest.mark.parametrize(("options", "sentence"), [
    ({"adjust": [[(1, 5.0)], [], []]},
     "adjust[0]: expected per query a pair (ids, deltas) such as ([4, 9], [0.5, -1.0]), got "
     "[(1, 5.0)]."),
    ({"adjust": ([0], [5.0])},
     "adjust: expected 3 pairs (ids, deltas), one per query, got 2."),
    ({"adjust": [([0], []), ([], []), ([], [])]},
     "adjust[0]: expected as many deltas as ids, got 0 for 1."),
    ({"exclude": [[0.7], [], []]},
     "exclude[0]: expected integers, got float64 values such as 0.7."),
    ({"exclude": [[1]]}, "exclude: expected 3 lists, one per query, got 1."),
])
def test_lists(options: dict[str, Any], sentence: str) -> None:
    says(lambda: ht.topk(Q, X, 2, **options), sentence)
    says(lambda: ht.TopKIndex(X).search(Q, 2, **options), sentence)


def test_ids_of_a_lookup() -> None:
    says(lambda: ht.ops.embedding_bag(X, [0.5, 1.7], [0, 2]),
         "ids: expected integers, got float64 values such as 0.5.")
    with pytest.raises(ht.HypertowerError) as caught:
        ht.ops.embedding_bag(X, [99], [0, 1])
    assert "BadIds" not in str(caught.value)


def test_callbacks(world: Any) -> None:
    rec = ht.Recommender.from_config(world / "config.toml")
    says(lambda: rec.fit(callbacks=print),
         "callbacks: expected a list of callables, got a builtin_function_or_method; write "
         "[callback].")
    says(lambda: rec.fit(callbacks=[3]), "callbacks[0]: expected a callable, got 3.")


def test_unknown_settings_are_refused_at_once(world: Any) -> None:
    with pytest.raises(ht.HypertowerError, match=r"training\.lrr"):
        ht.Recommender.from_config(world / "config.toml", overrides={"training.lrr": 0.05})
    with pytest.raises(ht.HypertowerError, match=r"unknown key 'epoch' in \[training\]"):
        ht.Recommender(training={"epoch": 1})


def test_pickle_names_the_way_to_save(rec: ht.Recommender) -> None:
    says(lambda: pickle.dumps(rec),
         "A Recommender cannot be pickled or copied: write it with save_pretrained(path) and load "
         "it with Recommender.from_pretrained(path).", ht.HypertowerError)
