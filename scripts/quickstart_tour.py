"""The second half of scripts/quickstart: data, training, serving, one event, a changed answer."""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent  # of the environment that runs this file
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hypertower" / "ml-100k"


def say(text: str) -> None:
    print(text, flush=True)


def hypertower(*arguments: str) -> None:
    """Runs the command as a person would, its output shown."""
    say("$ hypertower " + " ".join(arguments))
    done = subprocess.run([BIN / "hypertower", *arguments])
    if done.returncode:
        sys.exit(done.returncode)


def get_data(given: str | None) -> tuple[Path, Path]:
    """Folder of the tables, and the config that fits."""
    if given:
        return Path(given), ROOT / "configs/movielens.toml"
    if subprocess.run([sys.executable, ROOT / "scripts/movielens.py", CACHE]).returncode == 0:
        return CACHE, ROOT / "configs/movielens.toml"
    say("warning: no MovieLens without a network; going on with synthetic data")
    synthetic = CACHE.parent / "synth"
    hypertower("synth", str(synthetic))
    return synthetic, synthetic / "config.toml"


class Server:
    """`hypertower serve` on a free port with a state of its own; stopped on the way out."""

    def __init__(self, model: Path, state: str) -> None:
        self.port_file = Path(state) / "port"
        self.process = subprocess.Popen(
            [BIN / "hypertower", "serve", str(model), "--http", "0", "--state", f"{state}/events",
             "--port-file", str(self.port_file), "--log-level", "warn"])
        until = time.monotonic() + 30
        while not self.port_file.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("quickstart: the server did not start; its message is above")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self.port_file.read_text().strip()}"

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def read_titles(data: Path) -> dict[str, str]:
    """Item id -> what a person would call it."""
    with gzip.open(data / "items.csv.gz", "rt", encoding="utf-8") as f:
        return {row["item_id"]: row.get("title") or f"item {row['item_id']} ({row['category']})"
                for row in csv.DictReader(f)}


def show(answer: dict[str, Any], titles: dict[str, str]) -> list[str]:
    names = [titles.get(str(item["id"]), str(item["id"])) for item in answer["items"]]
    for name in names:
        say(f"    {name}")
    return names


def tour(model: Path, data: Path) -> None:
    """Asks a running server twice, with one event between."""
    titles = read_titles(data)
    with gzip.open(data / "events.csv.gz", "rt", encoding="utf-8") as f:
        user = next(csv.DictReader(f))["user_id"]
    with tempfile.TemporaryDirectory() as state:
        server = Server(model, state)
        try:
            ask = {"user": user, "context": {"hour": 21}, "k": 5}
            say(f"\nPOST {server.url}/v1/recommend {json.dumps(ask)}")
            start = time.perf_counter()
            before = server.post("/v1/recommend", ask)
            took = time.perf_counter() - start
            show(before, titles)
            say(f"    ({1000 * took:.1f} ms)")
            chosen = before["items"][-1]["id"]
            event = {"user": user, "item": chosen, "time": time.time(), "id": "quickstart-1"}
            say(f"\nPOST /v1/events: person {user} just took '{titles.get(str(chosen), chosen)}'")
            accepted = server.post("/v1/events", {"events": [event]})
            say(f"    {json.dumps(accepted)}")
            say("\nPOST /v1/recommend, the same request again")
            after = server.post("/v1/recommend", ask)
            show(after, titles)
            if before["items"] == after["items"]:
                sys.exit("quickstart: the answer did not change after the event")
            say("    The event changed the answer.")
        finally:
            code = server.stop()
        if code != 0:
            sys.exit(f"quickstart: the server ended with code {code} after SIGTERM")


def main() -> int:
    parser = argparse.ArgumentParser(prog="quickstart")
    parser.add_argument("--data", help="folder with events, items and users (default: download)")
    parser.add_argument("--out", default="runs/quickstart", help="model directory")
    args = parser.parse_args()
    data, config = get_data(args.data)
    model = Path(args.out)
    hypertower("train", str(config), "--data", str(data), "--out", str(model), "--with-history")
    tour(model, data)
    context = "--context hour=21"
    say(f"""
Done. What to type next (after: source .venv/bin/activate):
  hypertower recommend {model} --user 196 {context} -k 10
  hypertower serve {model} --http 8080
  hypertower inspect {model}
  hypertower schema YOUR_EVENTS.csv > my.toml; hypertower train my.toml --out runs/my""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
