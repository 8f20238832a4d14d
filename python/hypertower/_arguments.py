"""What people pass, checked before it reaches compiled code: each mistake is one sentence that says
what was expected, what came and what to write instead."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .errors import ArgumentError

# Lists longer than the catalogue are padded; beyond this length that is a slip of the keyboard,
# and the padding alone would take gigabytes.
MAX_PADDED_K = 100_000


def shown(x: Any) -> str:
    """How a message names what came."""
    if isinstance(x, str):
        return f"text {x!r}"
    if isinstance(x, Mapping):
        return "one dict"
    if isinstance(x, np.generic):
        x = x.item()
    if x is None or isinstance(x, (bool, int, float)):
        return repr(x)
    text = repr(x) if isinstance(x, (list, tuple)) else ""
    return text if 0 < len(text) <= 60 else f"a {type(x).__name__}"


def need_int(name: str, x: Any, least: int, most: int | None = None) -> int:
    """An integer within its bounds; a float is refused even where it is whole."""
    try:
        if isinstance(x, (bool, np.bool_)):
            raise TypeError
        value = operator.index(x)
    except TypeError:
        raise ArgumentError(f"{name}: expected an integer, got {shown(x)}.") from None
    if value < least:
        raise ArgumentError(f"{name}: expected at least {least}, got {value}.")
    if most is not None and value > most:
        raise ArgumentError(f"{name}: expected at most {most}, got {value}.")
    return value


def need_integers(name: str, x: Any) -> Any:
    """`x` if it holds integers: a conversion would cut 0.7 to 0 and wrap what 64 bits cannot hold.
    Tensors stay tensors, everything else becomes an array."""
    if is_tensor(x):
        kind = str(x.dtype).removeprefix("torch.")
        if x.numel() == 0 or kind.startswith(("int", "uint")):
            return x
        raise ArgumentError(f"{name}: expected integers, got {kind} values.")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as e:
        raise ArgumentError(f"{name}: expected integers, got {shown(x)} ({e}).") from e
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        first = array.reshape(-1)[0]
        raise ArgumentError(f"{name}: expected integers, got {array.dtype} values such as "
                            f"{shown(first)}.")
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise ArgumentError(f"{name}: expected integers below 2^63, got {array.max()}.")
    return array


def is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def need_k(k: Any, items: int) -> int:
    """The length of a list of best items: up to the catalogue, or padded up to MAX_PADDED_K."""
    return need_int("k", k, 1, max(items, MAX_PADDED_K))


def is_table(x: Any) -> bool:
    """A DataFrame or Arrow table, or a dict of columns."""
    if isinstance(x, Mapping):
        return bool(x) and all(is_column(column) for column in x.values())
    return hasattr(x, "columns")


def is_column(x: Any) -> bool:
    return hasattr(x, "__len__") and not isinstance(x, (str, bytes, Mapping))


def _rows_of(x: Any) -> str:
    """What turns a table of this library into a list of dicts."""
    calls = ("to_pylist", "to_dicts", "to_dict")
    call = next((c for c in calls if hasattr(x, c)), "to_dict")
    return '.to_dict("records")' if call == "to_dict" else f".{call}()"


def dict_list(name: str, values: Any, key: str = "") -> list[dict[str, Any]]:
    """A list of dicts (`requests`, `events`); `key` is what a bare id would stand for, if any."""
    expected = f"{name}: expected a list of dicts, got {shown(values)}"
    if isinstance(values, Mapping):
        raise ArgumentError(f"{expected}; write [{{...}}].")
    if key and isinstance(values, (str, int)):
        raise ArgumentError(f'{expected}; write [{{"{key}": {values!r}}}].')
    if is_table(values):
        raise ArgumentError(f"{expected}; write {name}{_rows_of(values)}.")
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{expected}.")
    out = []
    for i, value in enumerate(values):
        if not isinstance(value, Mapping):
            bare = key and isinstance(value, (str, int))
            cure = f'; write {{"{key}": {value!r}}}' if bare else ""
            raise ArgumentError(f"{name}[{i}]: expected a dict, got {shown(value)}{cure}.")
        out.append(dict(value))
    return out


def id_text(value: Any, path: str) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ArgumentError(f"{path}: expected an item id, got {shown(value)}.")
    return str(value)


def id_list(values: Any, name: str) -> list[Any]:
    """A list of ids, or of what stands for an item; never one id split into its letters."""
    if isinstance(values, np.generic):
        values = values.item()
    if isinstance(values, (str, int)):
        raise ArgumentError(f"{name}: expected a list of ids, got {values!r}; write [{values!r}].")
    if isinstance(values, Mapping):
        raise ArgumentError(f"{name}: expected a list of ids, got one dict; write [{{...}}].")
    if not isinstance(values, Iterable) or is_table(values):
        raise ArgumentError(f"{name}: expected a list of ids, got {shown(values)}.")
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values)  # an Arrow column


def id_texts(values: Any, name: str) -> list[str]:
    return [id_text(v, f"{name}[{i}]") for i, v in enumerate(id_list(values, name))]


def callback_list(callbacks: Any) -> list[Callable[[dict[str, Any]], Any]]:
    """Refused before a training starts that would end at its first epoch."""
    if isinstance(callbacks, (str, Mapping)) or not isinstance(callbacks, Iterable):
        cure = "; write [callback]" if callable(callbacks) else ""
        raise ArgumentError(
            f"callbacks: expected a list of callables, got {shown(callbacks)}{cure}.")
    out = list(callbacks)
    for i, callback in enumerate(out):
        if not callable(callback):
            raise ArgumentError(f"callbacks[{i}]: expected a callable, got {shown(callback)}.")
    return out
