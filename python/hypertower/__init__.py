"""hypertower: recommendations for a person in a moment.

`Recommender` trains, evaluates, answers, saves and loads; `Schema` says what the columns mean;
`inspect` looks at a model directory without loading it; `topk`, `TopKIndex`, `TopKMask` and `ops`
are the kernels.
"""

from __future__ import annotations

import os
from typing import Any

from . import _core, ops
from .errors import (
    ArgumentError,
    DataError,
    HypertowerError,
    IoError,
    ModelError,
    NotFittedError,
    NumericError,
    SchemaError,
)
from .ops import TopKIndex, TopKMask, topk
from .recommender import Recommender
from .schema import Schema

__version__: str = _core.version

__all__ = [
    "ArgumentError",
    "DataError",
    "HypertowerError",
    "IoError",
    "ModelError",
    "NotFittedError",
    "NumericError",
    "Recommender",
    "Schema",
    "SchemaError",
    "TopKIndex",
    "TopKMask",
    "inspect",
    "ops",
    "topk",
]


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a model directory holds (schema, sizes, metrics, versions), without loading it."""
    return _core.inspect(os.fspath(path))
