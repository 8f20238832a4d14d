"""Types of the compiled module that trains; needs torch and pyarrow."""

from typing import Any

from . import _core
from .progress import Observer

def train(config: _core.Config, sources: dict[str, Any], directory: str, observer: Observer,
          threads: int) -> tuple[_core.ModelData, dict[str, Any]]: ...
def evaluate(model: _core.Recommender, events: Any, people: _core.People | None, by: str,
             threads: int) -> dict[str, Any]: ...
