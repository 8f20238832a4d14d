"""Tables that people have -> what the trainer reads: a path, or one Arrow table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .errors import ArgumentError

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
    if isinstance(data, Mapping):
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
    if isinstance(data, Mapping) and "item" in data and not isinstance(data["item"], (list, tuple)):
        return [dict(data)]
    if isinstance(data, (list, tuple)):
        return list(data)
    table = to_source(data, "events")
    if isinstance(table, str):
        raise ArgumentError(
            f"events: expected live events as dicts or a table, got the path '{table}'; "
            "bulk history belongs to fit."
        )
    rows = table.to_pylist()
    return [{k: v for k, v in row.items() if v is not None and v == v}  # NaN is an empty cell too
            for row in rows]
