"""Errors of hypertower. Each message is one sentence: what was expected, what came, the cure."""

from __future__ import annotations

import os


class HypertowerError(Exception):
    """Base of all errors that hypertower raises itself.

    `field` is the dotted path of what was wrong ("context.hour"), "" when there is none.
    """

    field: str = ""


class ArgumentError(HypertowerError, ValueError):
    """An argument out of range, or shapes that do not fit."""


class SchemaError(HypertowerError, ValueError):
    """An unknown field or a wrong type, in a request, an event, a config or data."""


class DataError(HypertowerError, ValueError):
    """A file or table with a broken cell, column or encoding."""


class ModelError(HypertowerError):
    """A model directory that is missing, edited, truncated or of another version."""


class IoError(HypertowerError, OSError):
    """The operating system refused: disk full, permission, port taken."""


def os_sentence(e: OSError, path: str | os.PathLike[str] = "") -> str:
    """What the operating system refused, in one sentence that names the path. Arrow puts its own
    words around the reason, so the number counts where there is one."""
    where = e.filename or path
    reason = os.strerror(e.errno) if e.errno else str(e)
    return f"{os.fspath(where)}: {reason}." if where else f"{reason}."


class NumericError(HypertowerError, ArithmeticError):
    """NaN or infinity where a number was needed."""


class NotFittedError(HypertowerError):
    """A recommender was asked before `fit` or `from_pretrained`."""
