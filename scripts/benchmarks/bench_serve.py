"""Latency of hypertower-server over keep-alive HTTP, asked by wrk from a second process; and how
long a server of a large catalogue takes until it is ready."""

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
MAKE_MODEL = ROOT / "build" / "release" / "scripts" / "benchmarks" / "hypertower_make_model"


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
    suite = Suite(
        __doc__ or "", model="model directory (default runs/quickstart, else synthetic)",
        large={"action": "store_true",
               "help": "also start a server of 10M items of 128 numbers (12 GB of disk)"})
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
        measure_start(suite, folder, 100_000 if suite.quick else 1_000_000, 64)
        if suite.options.large:
            measure_start(suite, folder, 10_000_000, 128)


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


def measure_start(suite: Suite, folder: Path, items: int, dim: int) -> None:
    """Seconds until a server is ready whose files the machine has read before, and what each item
    takes of its own memory; the mapped files are the machine's, which may drop and reread them."""
    model = folder / "large"
    subprocess.run([MAKE_MODEL, str(items), str(dim), model], check=True)
    runs = []
    for _ in range(3):
        port_file = folder / "start.port"
        port_file.unlink(missing_ok=True)
        begin = time.perf_counter()
        process = subprocess.Popen(
            [HYPERTOWER, "serve", model, "--http", "0", "--port-file",
             port_file, "--state", folder / "start", "--log-level", "warn"])
        try:
            while not is_ready(port_file):
                assert process.poll() is None, "the server did not start; its message is above"
                time.sleep(0.005)
            seconds = time.perf_counter() - begin
            status = Path(f"/proc/{process.pid}/status").read_text()
            memory = {line.split(":")[0]: int(line.split()[1]) * 1024
                      for line in status.splitlines() if line.startswith("Rss")}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
        runs.append((seconds, memory["RssAnon"], memory["RssFile"]))
    shutil.rmtree(model)
    case = {"N": items, "D": dim}
    seconds, own, mapped = min(runs)
    suite.add("V3", {**case, "what": "time"}, seconds, "s", "lower", False, seconds)
    suite.add("V3", {**case, "what": "memory of its own"}, own / items, "B/item", "lower", False)
    suite.add("V3", {**case, "what": "mapped files"}, mapped / items, "B/item", "lower", False)


def is_ready(port_file: Path) -> bool:
    """Whether the server that writes this file serves its model."""
    try:
        port = port_file.read_text().strip()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    main()
