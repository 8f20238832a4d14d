"""Tables that people have -> what the compiled code reads: a path or one Arrow table to train on,
dicts for live events, ids and features for items."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from ._arguments import dict_list, id_list, id_text, is_column, is_table, shown
from .errors import ArgumentError, DataError

Source = Any  # a path or glob, pyarrow.Table, pandas or polars DataFrame, or a dict of arrays


def to_source(data: Source, name: str) -> str | Any:
    """A path as text, or a pyarrow.Table. Zero copy where the library of the table allows it."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    try:
        return _to_table(data, name)
    except (pa.ArrowException, TypeError) as e:  # columns of mixed types
        raise DataError(f"{name}: no table can be made of this {type(data).__name__}: {e}.") from e


def _to_table(data: Any, name: str) -> Any:
    import pyarrow as pa

    if isinstance(data, Mapping):
        scalar = next((key for key, column in data.items() if not is_column(column)), None)
        if scalar is not None:
            raise ArgumentError(f"{name}: expected a dict of arrays, got {shown(data[scalar])} "
                                f"as the column '{scalar}'.")
        lengths = {key: len(column) for key, column in data.items()}
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"{name}: expected columns of one length, got {lengths}.")
        return pa.table(dict(data))
    module = type(data).__module__.split(".")[0]
    if module == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):  # polars and everything else that speaks Arrow
        return pa.table(data)
    raise ArgumentError(
        f"{name}: expected a path, a pyarrow.Table, a pandas or polars DataFrame or a dict of "
        f"arrays, got {type(data).__name__}."
    )


def to_events(data: Any) -> list[dict[str, Any]]:
    """Live events as a list of dicts; a table becomes one dict per row, without empty cells."""
    if isinstance(data, Mapping) and not is_table(data):
        return [dict(data)]
    if isinstance(data, (list, tuple)):
        return dict_list("events", data)
    table = to_source(data, "events")
    if isinstance(table, str):
        raise ArgumentError(
            f"events: expected live events as dicts or a table, got the path '{table}'; "
            "bulk history belongs to fit."
        )
    rows = table.to_pylist()
    return [{k: v for k, v in row.items() if v is not None and v == v}  # NaN is an empty cell too
            for row in rows]


def to_items(data: Any, schema: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Ids ("" = none) and features of items. A table is read as `fit` reads it: by the names of its
    columns, others left alone; in a list, an id or a dict of features by their own names."""
    id_column = schema["columns"]["item"]
    features = [f for f in schema["features"] if f["group"] == "item"]
    if isinstance(data, Mapping) and not is_table(data):
        raise ArgumentError("items: expected a table, a list of dicts or a list of ids, got one "
                            "dict; write [{...}].")
    if is_table(data):
        return _items_of_table(to_source(data, "items"), id_column, features)
    taken = {f["name"] for f in features}
    ids, records = [], []
    for i, item in enumerate(id_list(data, "items")):
        record = dict(item) if isinstance(item, Mapping) else {"item": item}
        key = id_column if "item" not in record and id_column not in taken else "item"
        ids.append(id_text(record.pop(key), f"items[{i}]") if key in record else "")
        records.append(record)
    return ids, records


def _items_of_table(table: Any, id_column: str,
                    features: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    names = table.column_names
    columns = {f["name"]: f["column"] if f["column"] in names else f["name"] for f in features}
    absent = [f for f in features if columns[f["name"]] not in names]
    key = id_column if id_column in names or "item" in columns.values() else "item"
    if key not in names and len(absent) == len(features):
        raise _no_column(id_column, "columns.item", names)
    if absent and len(absent) < len(features):
        raise _no_column(absent[0]["column"], f"item.{absent[0]['name']}", names)
    used = {} if absent else columns
    rows = table.select(list({*used.values(), *([key] if key in names else [])})).to_pylist()
    ids = [id_text(row[key], f"items[{i}]") if key in row else "" for i, row in enumerate(rows)]
    return ids, [{name: row[column] for name, column in used.items() if row[column] is not None}
                 for row in rows]


def _no_column(column: str, asked_by: str, names: list[str]) -> DataError:
    near = difflib.get_close_matches(column, names, 1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names[:12])}."
    return DataError(f"items: no column '{column}', which {asked_by} names. {hint}")
