"""A world whose truth is known: how good can any model get, with and without the moment?

People have a taste u in R^8, of which segment and age show a part; items have a vector v, of which
category and price show a part, and a popularity. The moment (hour of day, weather) shifts and bends
the taste. The next item is drawn from

    P(i | person, moment) = softmax_i(sharpness / sqrt(8) * <q, v_i> + popularity_i)
    q = u + shift(moment) + u * bend(moment)

so the best reachable recall@10 is the mean probability mass of the ten likeliest items, and without
the moment that of the ten likeliest under the average over all moments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ArgumentError, IoError, os_sentence
from .progress import Line

_DIM = 8
_SEGMENTS, _CATEGORIES = 8, 20
_WEATHER = ("sun", "cloud", "rain", "snow")
_TASTE_SEEN, _ITEM_SEEN = 0.7, 0.6  # share of the variance that features show
_SHIFT, _BEND = 1.2, 1.5  # how far a moment moves a taste at context = 1
_POPULARITY = 0.5
_START, _DAYS = 1_700_000_000, 180  # seconds since 1970; length of the log
_TEST_SHARE = 0.1

_CONFIG = """\
name = "synth"
[data]
events = "events.csv.gz"
items = "items.csv.gz"
users = "users.csv.gz"
split = "time"
[columns]
user = "user_id"
item = "item_id"
time = "timestamp"
[user.segment]
kind = "category"
[user.age]
kind = "number"
[item.category]
kind = "category"
[item.price]
kind = "number"
[context.hour]
from = "time"
[context.weather]
kind = "category"
"""


@dataclass(frozen=True)
class World:
    """The truth: everything that the log is drawn from."""

    taste: np.ndarray  # [users, 8]
    vectors: np.ndarray  # [items, 8]
    popularity: np.ndarray  # [items]
    shift: np.ndarray  # [24, 4, 8]
    bend: np.ndarray  # [24, 4, 8]
    sharpness: float
    segment: np.ndarray
    age: np.ndarray
    category: np.ndarray
    price: np.ndarray

    def logits(self, users: np.ndarray, hours: np.ndarray, weather: np.ndarray) -> np.ndarray:
        """Unnormalised log-probabilities of all items, [n, items]."""
        u = self.taste[users]
        q = u + self.shift[hours, weather] + u * self.bend[hours, weather]
        return self.sharpness / np.sqrt(_DIM) * (q @ self.vectors.T) + self.popularity


def make_world(users: int, items: int, context: float, sharpness: float, seed: int) -> World:
    """`context` scales how strongly the moment moves a taste; 0 = not at all."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    segment, age = rng.integers(0, _SEGMENTS, users), rng.integers(16, 80, users)
    a = (age - 48) / 18.5
    seen = normal((_SEGMENTS, _DIM))[segment] + a[:, None] * normal(_DIM)
    seen += (a * a - 1)[:, None] * normal(_DIM) / 2
    taste = np.sqrt(_TASTE_SEEN / 2.25) * seen
    taste += np.sqrt(1 - _TASTE_SEEN) * normal((users, _DIM))
    category, log_price = rng.integers(0, _CATEGORIES, items), normal(items)
    seen = normal((_CATEGORIES, _DIM))[category] + log_price[:, None] * normal(_DIM) / 2
    vectors = np.sqrt(_ITEM_SEEN / 1.25) * seen
    vectors += np.sqrt(1 - _ITEM_SEEN) * normal((items, _DIM))
    angle = 2 * np.pi * np.arange(24) / 24

    def field(strength: float) -> np.ndarray:
        day = np.cos(angle)[:, None] * normal(_DIM) + np.sin(angle)[:, None] * normal(_DIM)
        return strength * (day[:, None] + normal((len(_WEATHER), _DIM))[None]) / np.sqrt(2)

    price = np.round(10 * np.exp(log_price), 2)
    return World(taste, vectors, _POPULARITY * normal(items), field(_SHIFT * context),
                 field(_BEND * context), sharpness, segment, age, category, price)


def _top_mass(logits: np.ndarray, k: int) -> np.ndarray:
    """Probability of the k likeliest items of each row."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return np.partition(p, p.shape[1] - k, axis=1)[:, -k:].sum(axis=1)


def _without_context(world: World, users: np.ndarray, items: np.ndarray, k: int) -> float:
    """Share of events whose item is among the k likeliest of its person over all moments."""
    hits = 0
    hours, weather = (m.reshape(-1) for m in np.meshgrid(np.arange(24), np.arange(len(_WEATHER))))
    for user in np.unique(users):
        logits = world.logits(np.full(len(hours), user), hours, weather)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        mean = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
        best = np.argpartition(-mean, k)[:k]
        hits += int(np.isin(items[users == user], best).sum())
    return hits / len(users)


def _write(path: str, fill: Callable[[str], None]) -> None:
    """Lets `fill` write the file; what the system refuses becomes one sentence."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fill(path)
    except OSError as e:
        raise IoError(f"cannot write {os_sentence(e, path)}") from e


def _write_text(path: str, text: str) -> None:
    def fill(name: str) -> None:
        with open(name, "w", encoding="utf-8") as f:
            f.write(text)

    _write(path, fill)


def _write_table(path: str, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.csv as csv

    def fill(name: str) -> None:
        with pa.CompressedOutputStream(name, "gzip") as stream:
            csv.write_csv(pa.table(columns), stream)

    _write(path, fill)


def synth(out: str | os.PathLike[str], *, events: int = 60_000, users: int = 1_000,
          items: int = 1_000, context: float = 1.0, sharpness: float = 2.5, seed: int = 0,
          progress: bool = False) -> dict[str, Any]:
    """Writes events, items, users (CSV.gz), a config and truth.json into the folder `out`.

    Returns what truth.json holds: the best reachable recall@10 over the last tenth of the events by
    time (the test part of split = "time"), with the moment known and unknown. Same arguments, same
    files. IoError when a file cannot be written; the config comes first, so that an unwritable
    folder is known before the data are drawn.
    """
    for name, value, least in (("events", events, 100), ("users", users, 1), ("items", items, 20)):
        if value < least:
            raise ArgumentError(f"{name}: expected at least {least}, got {value}.")
    folder = os.path.abspath(os.fspath(out))
    _write_text(os.path.join(folder, "config.toml"), _CONFIG)
    world = make_world(users, items, context, sharpness, seed)
    rng = np.random.default_rng([seed, 1])
    times = _START + np.sort(rng.integers(0, _DAYS * 86_400, events))
    who, weather = rng.integers(0, users, events), rng.integers(0, len(_WEATHER), events)
    hours = (times // 3600) % 24
    first_test = int(events * (1 - _TEST_SHARE))
    what, mass = np.empty(events, np.int64), []
    line = Line("synth", "events") if progress else None
    for begin in range(0, events, 4096):
        end = min(begin + 4096, events)
        logits = world.logits(who[begin:end], hours[begin:end], weather[begin:end])
        what[begin:end] = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        if end > first_test:
            mass.append(_top_mass(logits[max(0, first_test - begin):], 10))
        if line:
            line.update(end, events)
    truth = {
        "best recall@10": float(np.concatenate(mass).mean()),
        "best recall@10 without context": _without_context(world, who[first_test:],
                                                           what[first_test:], 10),
        "events": events, "users": users, "items": items, "context": context,
        "sharpness": sharpness, "seed": seed,
    }
    _write_table(os.path.join(folder, "events.csv.gz"),
                 {"user_id": who, "item_id": what, "timestamp": times,
                  "weather": np.array(_WEATHER)[weather]})
    _write_table(os.path.join(folder, "items.csv.gz"),
                 {"item_id": np.arange(items), "price": world.price,
                  "category": [f"c{c}" for c in world.category]})
    _write_table(os.path.join(folder, "users.csv.gz"),
                 {"user_id": np.arange(users), "age": world.age,
                  "segment": [f"s{s}" for s in world.segment]})
    _write_text(os.path.join(folder, "truth.json"), json.dumps(truth, indent=2) + "\n")
    return truth
