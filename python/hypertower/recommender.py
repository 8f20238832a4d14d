"""The recommender: fit, evaluate, recommend, save, load. Only fitting imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from . import _core
from ._arguments import callback_list, dict_list, id_list, id_texts, need_k
from ._memory import default_threads
from .data import Source, to_events, to_items, to_source
from .errors import ArgumentError, HypertowerError, NotFittedError
from .progress import Observer
from .schema import Schema

Request = Mapping[str, Any]
Id = int | str
Callback = Callable[[dict[str, Any]], Any]


class Recommender:
    """A two-tower context model: what is right for a person in a moment.

    >>> rec = Recommender.from_config("configs/movielens.toml").fit("events.csv")
    >>> ids, scores = rec.recommend([{"user": "196", "context": {"hour": 21}}], k=10)

    A request is a dict; every key is optional: `user`, `time` (seconds or datetime, default now),
    `context` (moment features), `features` (user features given or overridden), `history` (oldest
    first: `{"item", "kind", "time", "context"}`, only `item` required), `where`, `exclude`. Unknown
    people, missing context and unknown values are normal; an unknown field is a SchemaError.

    Thread-safe once fitted; `observe` may run beside `recommend`.
    """

    def __init__(self, schema: Schema | None = None, *, data: Mapping[str, Any] | None = None,
                 model: Mapping[str, Any] | None = None,
                 training: Mapping[str, Any] | None = None,
                 evaluation: Mapping[str, Any] | None = None, name: str = "recommender",
                 threads: int | None = None) -> None:
        tree: dict[str, Any] = {"name": name, **(schema.to_dict() if schema else {})}
        sections = {"data": data, "model": model, "training": training, "evaluation": evaluation}
        tree.update({key: dict(value) for key, value in sections.items() if value is not None})
        self._config = _core.Config.from_dict(tree, name)
        _core.check_config(self._config)
        self._directory = ""
        self._threads = threads or default_threads()
        self._core: _core.Recommender | None = None
        self._people = _core.People()
        self._ids: np.ndarray = np.empty(0, dtype=object)
        self.report_: dict[str, Any] = {}

    @classmethod
    def from_config(cls, config: str | os.PathLike[str], *,
                    overrides: Mapping[str, Any] | None = None,
                    threads: int | None = None) -> Recommender:
        """From a TOML file. `overrides`: {"training.lr": 0.05}. Relative paths in [data] count from
        the file."""
        rec = cls(threads=threads)
        rec._config = _core.Config.from_file(os.fspath(config))
        for path, value in (overrides or {}).items():
            rec._config.set(path, value)
        _core.check_config(rec._config)
        rec._directory = os.path.dirname(os.path.abspath(os.fspath(config)))
        return rec

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], *,
                        threads: int | None = None) -> Recommender:
        """Loads a model directory; checks every byte and the golden answers. Imports no torch."""
        rec = cls(threads=threads)
        rec._adopt(_core.Recommender.load(os.fspath(path)))
        return rec

    def _adopt(self, core: _core.Recommender) -> None:
        facts = core.facts()
        ids = core.item_ids()
        self._ids = np.empty(len(ids) + 1, dtype=object)  # row -1 is the None of missing places
        self._ids[:-1] = [int(i) for i in ids] if facts["item_ids_are_integers"] else ids
        self._facts = facts
        self._people = core.people()
        self._core = core

    def _fitted(self) -> _core.Recommender:
        if self._core is None:
            raise NotFittedError(
                "This recommender has no model yet: call fit, or load one with from_pretrained."
            )
        return self._core

    # ---- training ------------------------------------------------------------------------------

    def fit(self, events: Source | None = None, *, items: Source | None = None,
            users: Source | None = None, valid: Source | None = None,
            test: Source | None = None, progress: bool | None = None,
            callbacks: Iterable[Callback] = ()) -> Recommender:
        """Trains, evaluates on the held-back part, and keeps the model. Returns self.

        Each table: a path or glob (CSV, CSV.gz, Parquet), a pyarrow.Table, a pandas or polars
        DataFrame, or a dict of arrays; None = the path in [data] of the config. `progress`: None =
        only in a terminal or notebook. A callback gets one dict per step of the work
        ({"event": "epoch", "epoch": 3, "loss": ...}); returning False ends training early and keeps
        the best so far. `report_` holds the metrics of the model and its baselines afterwards.
        """
        from ._torch_part import load_trainer

        listeners = callback_list(callbacks)
        given = {"events": events, "items": items, "users": users, "valid": valid, "test": test}
        sources = {k: to_source(v, k) for k, v in given.items() if v is not None}
        observer = Observer(progress, listeners)
        try:
            model, report = load_trainer().train(self._config, sources, self._directory, observer,
                                                 self._threads)
        finally:
            observer.close()
        self.report_ = report
        self._adopt(_core.Recommender(model))
        return self

    def evaluate(self, test: Source | None = None, *, by: str | None = None) -> dict[str, Any]:
        """Exact metrics over the whole catalogue: {"recall@10": ..., "ndcg@10": ..., "baselines":
        {...}}. Without `test`: those of the part that training held back, measured before the model
        learned from that part too (`training.refit`): a test of yours must not have been in
        `events`. `by`: also per value of a feature, such as "context.hour". Events of `test` that
        come before an event count as its history.

        Baselines: with `test`, "popularity" and "recent_popularity", from the lists of items that
        training left in the model. "item_knn" needs the training events, which a model does not
        hold: it stands only in the report of training (`report_`, and here without `test`)."""
        core = self._fitted()
        if test is None:
            held_back = self._facts["metrics"]
            return {**held_back["test"], "baselines": held_back["baselines"]}
        from ._torch_part import load_trainer

        return load_trainer().evaluate(core, to_source(test, "test"), self._people, by or "",
                                       self._threads)

    # ---- answers -------------------------------------------------------------------------------

    def recommend(self, requests: Sequence[Request], k: int = 10, *,
                  exclude_seen: bool | None = None,
                  where: Mapping[str, Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each request, exactly: (ids [n, k], scores float32 [n, k]). k may
        exceed the catalogue up to 100,000.

        Missing places (fewer than k items are allowed) hold None and -inf. `exclude_seen`: leave
        out what the person's history holds; None = as the training data suggested. `where`: a
        filter, {"genre": ["Comedy"], "price": {"max": 30}, "not": {...}, "any": [{...}, {...}]}.
        """
        core = self._fitted()
        k, found = self._lengths(k)
        rows, scores, _ = core.recommend(_requests(requests), found, exclude_seen, where,
                                         self._people, self._threads)
        return self._answer(rows, scores, k)

    def similar_items(self, items: Sequence[Id], k: int = 10, *,
                      where: Mapping[str, Any] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest items to each item by their vectors, without itself."""
        core = self._fitted()
        k, found = self._lengths(k)
        rows, scores, _ = core.similar(id_texts(items, "items"), found, where, self._threads)
        return self._answer(rows, scores, k)

    def _lengths(self, k: Any) -> tuple[int, int]:
        """k, and how many of these places the catalogue can fill."""
        items = len(self._ids) - 1
        return (count := need_k(k, items)), min(count, max(items, 1))

    def _answer(self, rows: np.ndarray, scores: np.ndarray,
                k: int) -> tuple[np.ndarray, np.ndarray]:
        missing = ((0, 0), (0, k - rows.shape[1]))
        return (self._ids[np.pad(rows, missing, constant_values=-1)],
                np.pad(scores, missing, constant_values=-np.inf))

    def score(self, requests: Sequence[Request],
              items: Sequence[Id] | Sequence[Sequence[Id]]) -> np.ndarray:
        """The score that `recommend` would give: one item per request -> [n], lists -> [n, m].
        An item that the model does not know scores -inf, as `recommend` never returns it."""
        core = self._fitted()
        requests = _requests(requests)
        items = id_list(items, "items")
        if len(items) != len(requests):
            raise ArgumentError(
                f"items: expected one item or list per request ({len(requests)}), got {len(items)}."
            )
        flat = all(not _is_list(x) for x in items)
        lists = [[x] if not _is_list(x) else list(x) for x in items]
        if len({len(x) for x in lists}) > 1:
            raise ArgumentError("items: expected lists of one length, got several lengths.")
        texts = [id_texts(x, f"items[{i}]") for i, x in enumerate(lists)]
        out = core.score(requests, texts, self._people, self._threads)
        return out[:, 0] if flat and len(requests) else out

    def encode_query(self, requests: Sequence[Request]) -> np.ndarray:
        """Query vectors, float32 [n, dim]: what is multiplied with item vectors. Scores add what
        the model remembers of a history."""
        return self._fitted().encode_query(_requests(requests), self._people, self._threads)

    def encode_item(self, items: Source | Sequence[Id | Mapping[str, Any]]) -> np.ndarray:
        """Item vectors, float32 [n, dim]: of a table as `fit` takes it, or of a list whose elements
        are ids or dicts of item features with an optional "item" id. A new item needs only its
        features; without features an item is looked up by its id."""
        core = self._fitted()
        return core.encode_items(*to_items(items, self._facts["schema"]), self._threads)

    def observe(self, events: Any) -> int:
        """Live events ({"user", "item", "kind", "time", "context", "id"}): the next `recommend`
        sees them, in the order of `time` (default now), however they arrive. Repeated event ids are
        dropped. Returns the number accepted."""
        return int(self._people.observe(to_events(events), self._fitted()))

    # ---- files ---------------------------------------------------------------------------------

    def save_pretrained(self, path: str | os.PathLike[str], *, with_history: bool = False) -> None:
        """Writes the model directory, atomically. It holds personal data (features and events of
        people) only `with_history`."""
        self._fitted().save(os.fspath(path), self._people if with_history else None)

    def __reduce__(self) -> Any:
        """Pickle would need a second format that no test compares; copy.deepcopy asks here too."""
        raise HypertowerError(
            "A Recommender cannot be pickled or copied: write it with save_pretrained(path) and "
            "load it with Recommender.from_pretrained(path)."
        )

    @property
    def schema_(self) -> dict[str, Any]:
        """The schema of the fitted model."""
        self._fitted()
        return dict(self._facts["schema"])

    @property
    def item_ids_(self) -> np.ndarray:
        """Ids of the catalogue, in the order of the item matrix."""
        self._fitted()
        return self._ids[:-1].copy()

    def __repr__(self) -> str:
        if self._core is None:
            return f"Recommender({self._config.name!r}, not fitted)"
        return f"Recommender({self._facts['items']} items, dim {self._facts['dim']})"


def _requests(requests: Any) -> list[dict[str, Any]]:
    return dict_list("requests", requests, "user")


def _is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple, np.ndarray))
