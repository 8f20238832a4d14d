"""The processes of the competitors, seen from the driver: ask, wait no longer than a limit, end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .competitors import Unable, environment

_FOLDER = Path(__file__).resolve().parents[1]


class Failed(Exception):
    """The worker did not answer; the message says how, in one sentence."""


class Worker:
    """A competitor with a number of threads; started when it is first asked, and again after it
    died or was too slow, with the items it had."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._items: Path | None = None

    def use(self, items: Path) -> None:
        """The items it loads when it is first asked."""
        self._items = items

    def _start(self) -> None:
        self.end()
        path = os.pathsep.join([str(_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "topk.worker", self.name, str(self.threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**environment(self.name, self.threads), "PYTHONPATH": path})
        self._ask({"do": "load", "items": str(self._items)}, 600)

    def ask(self, message: dict[str, Any], limit: float) -> dict[str, Any]:
        """The answer to a message; raises Failed, or Unable where the competitor cannot do it."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        return self._ask(message, limit)

    def _ask(self, message: dict[str, Any], limit: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; the empty answer below says so
        line, end = b"", time.monotonic() + limit
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.end()
                raise Failed(f"no answer within {limit:g} s")
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                code = process.wait()
                self.end()
                raise Failed(f"ended with {'signal' if code < 0 else 'code'} {abs(code)}")
            line += part
        reply = json.loads(line)
        if "unable" in reply:
            raise Unable(reply["unable"])
        if "error" in reply:
            raise Failed(reply["error"])
        return reply

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
