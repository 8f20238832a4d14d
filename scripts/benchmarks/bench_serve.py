"""Latency of hypertower-server over keep-alive HTTP, asked by wrk from a second process."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, Suite

import hypertower as ht

WRK_SCRIPT = Path(__file__).with_name("requests.lua")
HYPERTOWER = Path(sys.executable).with_name("hypertower")


def train_synthetic(folder: Path) -> Path:
    """A model of a synthetic world, for a checkout that has trained none."""
    for words in (["synth", folder / "data"],
                  ["train", folder / "data" / "config.toml", "--out", folder / "model",
                   "--with-history"]):
        subprocess.run([HYPERTOWER, *words], check=True, stdout=subprocess.DEVNULL)
    return folder / "model"


class Server:
    """hypertower-server on a free port with a state folder of its own."""

    def __init__(self, model: Path, folder: Path) -> None:
        port_file = folder / "port"
        self.process = subprocess.Popen(
            [HYPERTOWER, "serve", model, "--http", "0", "--state", folder / "state",
             "--port-file", port_file, "--log-level", "warn"])
        until = time.monotonic() + 60
        while not port_file.exists() or not port_file.read_text().strip():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("bench serve: the server did not start; its message is above")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port_file.read_text().strip()}/v1/recommend"

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self.url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def wrk(self, bodies: Path, connections: int, seconds: float) -> dict[str, Any]:
        """What requests.lua reports: requests, errors, and percentiles in milliseconds."""
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", WRK_SCRIPT,
             self.url, "--", bodies],
            capture_output=True, text=True, check=True)
        return json.loads(done.stdout.strip().splitlines()[-1])


def check_answers(server: Server, model: Path, bodies: list[dict[str, Any]]) -> None:
    """The server must answer as the Python package does from the same directory."""
    recommender = ht.Recommender.from_pretrained(model)
    requests = [{"user": b["user"], "context": b["context"]} for b in bodies]
    ids, scores = recommender.recommend(requests, k=10, exclude_seen=True)
    for body, row, row_scores in zip(bodies, ids, scores, strict=True):
        items = server.ask(body)["items"]
        assert [str(i["id"]) for i in items] == [str(i) for i in row], body
        np.testing.assert_allclose([i["score"] for i in items], row_scores, rtol=1e-6)


def main() -> None:
    suite = Suite(__doc__ or "", model="model directory (default runs/quickstart, else synthetic)")
    if not shutil.which("wrk"):
        sys.exit("bench serve: needs wrk; scripts/setup installs it")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = Path(suite.options.model or ROOT / "runs" / "quickstart")
        if not model.exists():
            model = train_synthetic(folder)
        items = ht.inspect(str(model))["items"]["count"]
        chance = random.Random(1)
        bodies = [{"user": str(chance.randrange(1, 900)), "context": {"hour": chance.randrange(24)},
                   "k": 10, "exclude_seen": True} for _ in range(2000)]
        file = folder / "bodies.jsonl"
        file.write_text("".join(json.dumps(b) + "\n" for b in bodies))
        server = Server(model, folder)
        try:
            check_answers(server, model, bodies[:50])
            seconds = 2 if suite.quick else 10
            server.wrk(file, 4, 1)  # warm up
            for connections in (1, 8, 32):
                case = {"model": model.name, "N": items, "K": 10, "connections": connections}
                report = server.wrk(file, connections, seconds)
                for what in ("p50", "p99"):
                    suite.add("V1", {**case, "what": what, "requests": report["requests"]},
                              report[what], "ms", "lower", True, report[what] / 1000)
                suite.add("V1", {**case, "what": "throughput"}, report["requests"] / seconds,
                          "1/s", "higher", True)
            measure_reload(suite, server, file, seconds, {"model": model.name, "N": items})
            measure_end(suite, server, file, {"model": model.name, "N": items})
        finally:
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=30) == 0, "the server did not end cleanly"


def measure_reload(suite: Suite, server: Server, file: Path, seconds: float,
                   case: dict[str, Any]) -> None:
    """Failed requests while the model is loaded again and again."""
    stop = threading.Event()

    def reload() -> None:
        while not stop.wait(0.3):
            server.process.send_signal(signal.SIGHUP)

    thread = threading.Thread(target=reload)
    thread.start()
    report = server.wrk(file, 8, seconds)
    stop.set()
    thread.join()
    suite.add("V1", {**case, "what": "errors during reloads", "requests": report["requests"]},
              report["errors"] + report["refused"], "", "lower", True)


def measure_end(suite: Suite, server: Server, file: Path, case: dict[str, Any]) -> None:
    """Requests that were sent and not answered when the server is told to end under load."""
    timer = threading.Timer(1.0, lambda: server.process.send_signal(signal.SIGTERM))
    timer.start()
    report = server.wrk(file, 8, 5)
    timer.join()
    assert server.process.wait(timeout=30) == 0, "the server did not end cleanly"
    suite.add("V1", {**case, "what": "requests lost at SIGTERM", "requests": report["requests"]},
              report["errors"], "", "lower", True)


if __name__ == "__main__":
    main()
