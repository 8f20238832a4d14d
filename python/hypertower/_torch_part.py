"""Loads the part that needs torch and Arrow, once, with a message that says what is missing."""

from __future__ import annotations

import os
import sys
from types import ModuleType

from .errors import HypertowerError


def load_trainer() -> ModuleType:
    """The compiled trainer, after torch and pyarrow, whose libraries it uses."""
    if "torch" not in sys.modules:  # OpenMP reads it when it is loaded; why: trainer/main.cpp
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    for name in ("torch", "pyarrow"):
        try:
            __import__(name)
        except ImportError as e:
            raise HypertowerError(
                f"Training needs {name}, which this Python cannot import ({e}); "
                "pip install hypertower brings the fitting version."
            ) from e
    try:
        from . import _trainer
    except ImportError as e:
        raise HypertowerError(
            f"The trainer does not load beside the installed torch and pyarrow ({e}); "
            "'hypertower doctor' shows the versions it was built for."
        ) from e
    return _trainer
