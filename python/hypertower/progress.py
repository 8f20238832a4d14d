"""Progress of long work on stderr: on by default only in a terminal or notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

Callback = Callable[[dict[str, Any]], Any]


def wanted() -> bool:
    """True in a terminal and in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    return f"{minutes}:{rest:02d}"


class Line:
    """One line that is rewritten in place: what, how far, rate, time left."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.start = self.shown = time.monotonic()

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.shown < 0.2 and done < total:
            return
        self.shown = now
        elapsed = max(now - self.start, 1e-9)
        rate = done / elapsed
        left = clock((total - done) / rate) if rate > 0 else "?"
        print(f"\r{self.what}: {done:,}/{total:,} {self.unit}, {rate:,.0f}/s, {left} left\x1b[K",
              end="\n" if done >= total else "", file=sys.stderr, flush=True)


class Observer:
    """What the compiled trainer calls back: `notify` with one dict per step of the work."""

    def __init__(self, progress: bool | None, callbacks: list[Callback]) -> None:
        self.show = wanted() if progress is None else progress
        self.callbacks = callbacks
        self.line: Line | None = None
        self.stage = ""

    def notify(self, event: dict[str, Any]) -> bool:
        """False asks the trainer to stop cleanly and keep the best model so far."""
        if self.show:
            self._print(event)
        return all(callback(event) is not False for callback in self.callbacks)

    def _print(self, event: dict[str, Any]) -> None:
        if event["event"] == "progress":
            if self.line is None or self.stage != event["stage"]:
                self.stage, self.line = event["stage"], Line(event["stage"], event["unit"])
            self.line.update(event["done"], event["total"])
            return
        self.close()
        if event["event"] == "message":
            print(event["text"], file=sys.stderr, flush=True)
        elif event["event"] == "epoch":
            parts = [f"epoch {event['epoch']}"]
            parts += [f"{k} {v:.4f}" for k, v in event.items()
                      if isinstance(v, float) and k != "seconds"]
            print("  ".join(parts), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends a line that is still being rewritten."""
        if self.line is not None and self.show:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        self.line = None
