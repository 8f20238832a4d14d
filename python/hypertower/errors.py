"""Errors of hypertower. Each message is one sentence: what was expected, what came, the cure."""

from __future__ import annotations


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


class NumericError(HypertowerError, ArithmeticError):
    """NaN or infinity where a number was needed."""


class NotFittedError(HypertowerError):
    """A recommender was asked before `fit` or `from_pretrained`."""
