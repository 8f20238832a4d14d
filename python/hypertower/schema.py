"""The schema: what the columns of the data mean. Checked by the same code that the server runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import _core

Table = Mapping[str, Any]


class Schema:
    """Columns and features of a data set, as the tables of a config file.

    A feature is a kind ("category", "categories", "number", "vector") or a table with `kind` and
    more: `column`, `separator`, `from`, `min_count`, `oov_rows`, `bins`, `length`. Categories may
    have `vocabulary` "dynamic": a table of `rows` rows, which values seen `min_count` times get as
    they come in training; when it is full, `evict` says whose row is taken ("none",
    "least_recent", "least_frequent"). The others share the hashed rows.

    >>> Schema(columns={"user": "user_id", "item": "item_id", "time": "timestamp"},
    ...        user={"gender": "category"}, item={"year": "number"},
    ...        context={"hour": {"from": "time"}})

    Raises SchemaError for unknown keys and kinds, naming the nearest valid one.
    """

    def __init__(self, *, columns: Table | None = None, user: Table | None = None,
                 item: Table | None = None, context: Table | None = None,
                 outcome: Table | None = None, kinds: Table | None = None,
                 history: Table | None = None) -> None:
        tables = {"columns": columns, "user": user, "item": item, "context": context,
                  "outcome": outcome, "kinds": kinds, "history": history}
        self._tables: dict[str, Any] = {}
        for name, table in tables.items():
            if table is None:
                continue
            features = name in ("user", "item", "context")
            self._tables[name] = {
                key: {"kind": value} if features and isinstance(value, str) else _plain(value)
                for key, value in table.items()
            }
        self._checked = _core.check_schema(_core.Config.from_dict(self._tables, "Schema"))

    @classmethod
    def from_config(cls, path: str) -> Schema:
        """The schema part of a TOML config."""
        tree = _core.Config.from_file(str(path)).to_dict()
        names = ("columns", "user", "item", "context", "outcome", "kinds", "history")
        return cls(**{name: tree[name] for name in names if name in tree})

    def to_dict(self) -> dict[str, Any]:
        """The tables, as they stand in a config."""
        return {name: dict(table) for name, table in self._tables.items()}

    def describe(self) -> dict[str, Any]:
        """The checked schema with every default filled in, as it is written into a model."""
        return dict(self._checked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self._checked == other._checked

    def __repr__(self) -> str:
        return "Schema(" + ", ".join(f"{k}={v!r}" for k, v in self._tables.items()) + ")"


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
