"""Drafts a config from data: guesses what each column is, and says why in a comment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import DataError

_USER = ("user_id", "user", "userid", "customer_id", "household_id", "session_id", "visitor_id")
_ITEM = ("item_id", "item", "itemid", "product_id", "movie_id", "track_id", "sku", "control")
_TIME = ("timestamp", "time", "transaction_timestamp", "event_time", "datetime", "ts", "date")
_KIND = ("event", "kind", "event_type", "action", "behavior")
_POSITION = ("position", "rank", "step", "order")
_OUTCOME = re.compile(r"(^|_)(after|rating|duration|clicked|label|result|outcome)($|_)")
_SAMPLE = 100_000


@dataclass(frozen=True)
class Guess:
    """One feature: its lines in the config and why."""

    kind: str
    why: str
    separator: str = ""


def read_sample(path: str) -> Any:
    """The first rows of a CSV, CSV.gz or Parquet file as a pyarrow.Table."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    try:
        if path.endswith(".parquet"):
            return next(parquet.ParquetFile(path).iter_batches(_SAMPLE), None)
        with csv.open_csv(path) as reader:
            batches, rows = [], 0
            for batch in reader:
                batches.append(batch)
                rows += batch.num_rows
                if rows >= _SAMPLE:
                    break
            return pa.Table.from_batches(batches)
    except FileNotFoundError as e:
        raise DataError(f"{path}: no such file.") from e
    except (pa.ArrowInvalid, OSError) as e:
        raise DataError(f"{path}: cannot be read as CSV, CSV.gz or Parquet: {e}.") from e


def _pick(names: list[str], wanted: tuple[str, ...]) -> str | None:
    lower = {n.lower(): n for n in names}
    return next((lower[w] for w in wanted if w in lower), None)


def guess_feature(column: Any, rows: int) -> Guess | None:
    """What a column holds; None where it would not help (an id of its own, always the same)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    distinct = pc.count_distinct(column).as_py()
    kind = column.type
    if distinct < 2:
        return None
    if pa.types.is_list(kind):
        value = kind.value_type
        return Guess("vector" if pa.types.is_floating(value) else "categories", "a list")
    if pa.types.is_floating(kind):
        return Guess("number", f"{distinct} distinct numbers")
    if pa.types.is_integer(kind):
        if distinct > 50:
            return Guess("number", f"{distinct} distinct integers")
        return Guess("category", f"{distinct} distinct integers")
    if not (pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_dictionary(kind)):
        return None
    texts = [t for t in column.to_pylist()[:5000] if t]
    for separator in ("|", ";", ","):
        share = sum(separator in str(t) for t in texts) / max(1, len(texts))
        parts = {p for t in texts for p in str(t).split(separator)}
        if share > 0.1 and len(parts) < distinct:
            return Guess("categories", f"{len(parts)} values joined by '{separator}'", separator)
    if rows > 50 and distinct > 0.9 * rows:
        return None  # a name or an id of its own
    return Guess("category", f"{distinct} distinct texts")


def _feature_lines(group: str, table: Any, skip: set[str]) -> list[str]:
    """One line per feature under [group], then what cannot be an input and what was left out."""
    features, outcomes, left_out = [], [], []
    for name in table.schema.names:
        if name in skip:
            continue
        guess = guess_feature(table.column(name), table.num_rows)
        field = re.sub(r"[^A-Za-z0-9_]", "_", name)
        column = [f'column = "{name}"'] if field != name else []
        if guess is None:
            left_out.append(name)
        elif group == "context" and _OUTCOME.search(name.lower()):
            outcomes.append(f"{field} = {{ {', '.join(column)} }}" if column else f"{field} = {{}}")
        else:
            keys = [f'kind = "{guess.kind}"', *column]
            keys += [f'separator = "{guess.separator}"'] if guess.separator else []
            features.append(f"{field} = {{ {', '.join(keys)} }}  # {guess.why}")
    lines = [f"[{group}]", *features] if features else []
    if outcomes:
        lines += ["[outcome]  # sound like known only afterwards", *outcomes]
    if left_out:
        lines.append(f"# left out, always the same or a text of its own per row: "
                     f"{', '.join(left_out)}")
    return lines


def draft_config(events: str, items: str | None = None, users: str | None = None) -> str:
    """A TOML config for the files. Raises DataError when no user or item column can be found."""
    table = read_sample(events)
    names = list(table.schema.names)
    columns: dict[str, str] = {}
    for role, wanted in (("user", _USER), ("item", _ITEM), ("time", _TIME), ("kind", _KIND),
                         ("position", _POSITION)):
        found = _pick([n for n in names if n not in columns.values()], wanted)
        if found:
            columns[role] = found
    for role in ("user", "item"):
        if role not in columns:
            raise DataError(
                f"{events}: found no {role} column among {', '.join(names)}; rename one to "
                f"{role}_id, or write [columns] {role} = \"...\" yourself."
            )
    if "time" in columns:
        columns.pop("position", None)
    lines = ['name = "draft"', "[data]", f'events = "{events}"']
    lines += [f'{key} = "{path}"' for key, path in (("items", items), ("users", users)) if path]
    lines += [f'split = "{"time" if "time" in columns else "last"}"', "[columns]"]
    lines += [f'{role} = "{name}"' for role, name in columns.items()]
    of_context = _feature_lines("context", table, set(columns.values()))
    if "time" in columns:
        if of_context[:1] != ["[context]"]:
            of_context.insert(0, "[context]")
        of_context[1:1] = ['hour = { from = "time" }', 'weekday = { from = "time" }']
    lines += of_context
    for group, path, role in (("item", items, "item"), ("user", users, "user")):
        if path:
            side = read_sample(path)
            if columns[role] not in side.schema.names:
                raise DataError(
                    f"{path}: expected the column '{columns[role]}' of {events}, "
                    f"got {', '.join(side.schema.names)}."
                )
            lines += _feature_lines(group, side, {columns[role]})
    return "\n".join(lines) + "\n"
