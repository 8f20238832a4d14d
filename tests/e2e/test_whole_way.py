"""Events -> training -> model directory -> real server -> answers, with the installed programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hypertower as ht
from hypertower.doctor import program
from hypertower.synth import synth

MOMENT = {"hour": 21, "weather": "rain"}


class Server:
    """`hypertower serve` on free ports."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.port_file = folder / "port"
        self.port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hypertower", "serve", str(model), "--http", "0", "--admin",
             "127.0.0.1:0", "--state", str(folder / "state"), "--port-file", str(self.port_file),
             "--log-level", "warn"], stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 60
        while not self.port_file.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(self.process.stderr.read() if self.process.stderr else "")
            time.sleep(0.01)
        self.public, self.admin = (f"http://127.0.0.1:{p}"
                                   for p in self.port_file.read_text().split())

    def call(self, path: str, body: Any = None, base: str | None = None,
             method: str | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request((base or self.public) + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def recommend(self, **request: Any) -> list[Any]:
        status, answer = self.call("/v1/recommend", request)
        assert status == 200, answer
        return [item["id"] for item in answer["items"]]

    def stop(self, how: int = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by the command line, with people."""
    folder = tmp_path_factory.mktemp("whole")
    synth(folder / "data", events=4_000, users=100, items=60)
    done = subprocess.run(
        [sys.executable, "-m", "hypertower", "train", str(folder / "data" / "config.toml"), "--out",
         str(folder / "model"), "--with-history", "--set", "training.epochs=2", "--set",
         "training.refit=false"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "model"


@pytest.fixture
def server(model: Path, tmp_path: Path) -> Iterator[Server]:
    running = Server(model, tmp_path)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


def test_the_server_answers_as_python_does(server: Server, model: Path) -> None:
    rec = ht.Recommender.from_pretrained(model)
    requests: list[dict[str, Any]] = [
        {"user": "3", "context": MOMENT},
        {"user": "nobody", "features": {"age": 30, "segment": "s1"}, "context": {"hour": 4}},
        {"history": [{"item": 4}, {"item": "9"}], "context": {}},
        {"user": 5, "context": MOMENT, "where": {"price": {"max": 8}}},
    ]
    when = 1_715_000_000
    requests = [{"time": when, **r} for r in requests]
    ids, scores = rec.recommend(requests, k=8)
    status, answer = server.call("/v1/recommend", {"requests": requests, "k": 8})
    assert status == 200, answer
    for r, response in enumerate(answer["responses"]):
        found = [i for i in ids[r] if i is not None]
        assert [item["id"] for item in response["items"]] == found
        assert response["count"] == len(found)
        for item, score in zip(response["items"], scores[r], strict=False):
            assert item["score"] == pytest.approx(float(score), rel=1e-6)


def test_an_event_changes_the_next_answer_and_survives_a_kill(model: Path, tmp_path: Path) -> None:
    server = Server(model, tmp_path)
    ask = {"user": "new person", "context": MOMENT, "k": 10, "exclude_seen": False, "time": 1e9}
    before = server.recommend(**ask)
    event = {"user": "new person", "item": before[-1], "id": "e1", "time": 1e9}
    status, answer = server.call("/v1/events", {"events": [event, event]})
    assert status == 200 and (answer["accepted"], answer["duplicates"]) == (1, 1)
    after = server.recommend(**ask)
    assert after != before
    server.stop(signal.SIGKILL)

    again = Server(model, tmp_path)
    assert again.recommend(**ask) == after
    status, answer = again.call("/v1/events", {"events": [event]})
    assert (answer["accepted"], answer["duplicates"]) == (0, 1)
    status, person = again.call("/v1/users/new%20person")
    assert status == 200 and len(person["events"]) == 1
    assert again.call("/v1/users/new%20person", method="DELETE")[0] == 200
    assert again.recommend(**ask) == before
    assert again.stop() == 0


def test_a_model_is_exchanged_and_rolled_back(server: Server, model: Path, tmp_path: Path) -> None:
    rec = ht.Recommender.from_pretrained(model)
    rec.save_pretrained(tmp_path / "other")
    status, first = server.call("/v1/model")
    assert status == 200
    status, _ = server.call("/v1/model", {"path": str(tmp_path / "other")}, server.admin)
    assert status == 200
    broken = tmp_path / "other" / "weights.safetensors"
    data = bytearray(broken.read_bytes())
    data[-1] ^= 1
    broken.write_bytes(data)
    status, error = server.call("/v1/model", {"path": str(tmp_path / "other")}, server.admin)
    assert status >= 400 and "weights.safetensors" in error["error"]["message"]
    assert server.recommend(context=MOMENT)
    assert server.call("/v1/model", {"rollback": True}, server.admin)[0] == 200
    status, last = server.call("/v1/model")
    assert last["model"] == first["model"]


@pytest.mark.parametrize(("body", "words"), [
    ({"context": {"huor": 3}}, "Did you mean 'hour'"),
    ({"contxt": {}}, "Did you mean 'context'"),
    ({"context": {"hour": {"a": 1}}}, "context.hour"),
    ({"k": 0}, "k"),
    ({"where": {"catgory": ["c1"]}}, "Did you mean 'category'"),
])
def test_refusals_name_the_field(server: Server, body: Any, words: str) -> None:
    status, answer = server.call("/v1/recommend", body)
    assert status == 400 and words in answer["error"]["message"]


def test_health_and_metrics(server: Server) -> None:
    assert server.call("/healthz")[0] == 200
    assert server.call("/readyz")[0] == 200
    server.recommend(context=MOMENT)
    text = urllib.request.urlopen(server.public + "/metrics", timeout=10).read().decode()
    assert "hypertower_requests_total" in text


def test_port_taken_and_model_missing_are_one_sentence(server: Server, model: Path,
                                                       tmp_path: Path) -> None:
    port = server.public.rsplit(":", 1)[1]
    taken = subprocess.run(
        [sys.executable, "-m", "hypertower", "serve", str(model), "--http", port, "--state",
         str(tmp_path / "s2"), "--log-level", "warn"], capture_output=True, text=True, timeout=30)
    assert taken.returncode == 1 and port in taken.stderr and "taken by another" in taken.stderr
    missing = tmp_path / "none"
    gone = subprocess.run([sys.executable, "-m", "hypertower", "serve", str(missing)],
                          capture_output=True, text=True, timeout=30)
    assert gone.returncode == 1 and str(missing) in gone.stderr
    assert not list(tmp_path.glob("none*"))


def test_the_server_links_no_torch() -> None:
    path = program("hypertower-server")
    assert path is not None and os.access(path, os.X_OK)
    lines = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    libraries = [line.split()[0] for line in lines.splitlines()]
    assert any("librocksdb" in name for name in libraries)
    for word in ("torch", "c10", "arrow", "python"):
        assert not any(word in name for name in libraries)
