"""The top-K benchmark without its peers: the oracle, a tiny run, the rows and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))

from floors import Floors, Rates, floor_seconds, last_level_cache  # noqa: E402
from topk import scores  # noqa: E402
from topk.cases import (  # noqa: E402
    ADVERSARIAL,
    OURS,
    Case,
    Plan,
    adversarial_cases,
    grid_cases,
)
from topk.data import Dataset  # noqa: E402
from topk.measure import Measurement, Session, Slot  # noqa: E402
from topk.oracle import Oracle, canonical_scores, disagreement, mismatch  # noqa: E402
from topk.pool import Failed, Worker  # noqa: E402
from topk.report import page, picture  # noqa: E402

ROW_KEYS = ["id", "case", "value", "unit", "better", "checked", "seconds", "peer_seconds",
            "floor_seconds", "machine", "commit"]


def by_definition(q: np.ndarray, x: np.ndarray) -> np.float32:
    """The canonical score, one number at a time."""
    lanes = [0.0] * 8
    for j, (a, b) in enumerate(zip(q.tolist(), x.tolist(), strict=True)):
        lanes[j % 8] += a * b
    a, b, c, d, e, f, g, h = lanes
    return np.float32((((a + e) + (c + g)) + ((b + f) + (d + h))) + 0.0)


@pytest.mark.parametrize("dim", [1, 8, 13, 64])
def test_scores_of_the_oracle_are_canonical(dim: int) -> None:
    rng = np.random.default_rng(dim)
    q = rng.standard_normal(dim, dtype=np.float32)
    x = rng.standard_normal((50, dim), dtype=np.float32)
    np.testing.assert_array_equal(canonical_scores(q, x), [by_definition(q, row) for row in x])


def test_the_oracle_orders_ties_by_id_and_obeys_masks_and_lists() -> None:
    x = np.array([[1.0], [3.0], [2.0], [3.0], [3.0]], np.float32)
    oracle = Oracle(x, np.ones((1, 1), np.float32))
    assert oracle.answer(0, 4)[0].tolist() == [1, 3, 4, 2]
    mask = np.array([True, False, True, True, True])
    ids, values = oracle.answer(0, 4, mask, np.array([3, 3]))
    assert ids.tolist() == [4, 2, 0, -1] and values.tolist() == [3.0, 2.0, 1.0, -np.inf]


@pytest.mark.parametrize("name", ["gaussian", "low-rank", "heavy-tailed", *ADVERSARIAL])
def test_the_oracle_is_a_sort_of_all_canonical_scores(name: str, tmp_path: Path) -> None:
    dataset = Dataset(tmp_path, name, 3000, 24)
    items, queries = np.load(dataset.items()), np.load(dataset.queries())
    assert np.isfinite(items).all()
    ids, values = Oracle(items, queries).answer(7, 200)
    exact = canonical_scores(queries[7], items)
    order = np.lexsort((np.arange(3000), -exact.astype(np.float64)))[:200]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(values, exact[order])


def test_one_wrong_bit_is_a_mismatch_and_rounding_of_a_peer_is_not() -> None:
    right = np.array([5, 2]), np.array([2.0, 1.0], np.float32)
    near = np.nextafter(right[1], np.float32(9))
    assert mismatch(right, right) == ""
    assert "score" in mismatch((right[0], near), right)
    assert mismatch((right[0][::-1], right[1]), right) == "place 0 holds item 2, not 5"
    assert disagreement((right[0], near), right) == ""
    assert disagreement((np.array([7, 8]), right[1]), right) == "only 0.0% of the ids are right"
    assert "not 1" in disagreement((right[0], np.array([2.0, 0.9], np.float32)), right)


def test_masks_keep_the_share_asked_for_and_differ_between_queries(tmp_path: Path) -> None:
    case = Case("gaussian", 5000, 8, 4, 10, 0.9, mask="own")
    dataset = Dataset.of(tmp_path, case)
    path, lists = dataset.mask(case), dataset.exclude(case)
    assert path is not None and lists is not None
    mask = np.load(path)
    assert mask.shape == (4, 5000) and 0.05 < mask.mean() < 0.15
    assert not np.array_equal(mask[0], mask[1])
    assert np.load(lists).shape == (4, 1000)
    shared = dataset.mask(replace(case, mask="range", filter=0.5))
    assert shared is not None
    np.testing.assert_array_equal(np.load(shared), np.arange(5000) >= 2500)


def test_the_floor_is_the_slower_of_arithmetic_and_reading() -> None:
    rates = Rates(1e12, 2e12, 1e10, 2e10)
    rows = last_level_cache()  # with 100 dimensions far above the cache
    assert floor_seconds(rates, "wall", rows, 100, 1) == rows * 100 / 1e10
    assert floor_seconds(rates, "cpu", rows, 100, 1000) == 2.0 * rows * 100 * 1000 / 2e12
    assert floor_seconds(rates, "wall", 1000, 10, 1) == 2.0 * 1000 * 10 / 1e12  # fits the cache


@pytest.mark.skipif(not (ROOT / "build" / "release" / "build.ninja").exists(),
                    reason="the checkout was not built")
def test_the_floors_build_and_measure() -> None:
    cmake = Path(sys.executable).with_name("cmake")
    subprocess.run([cmake, "--build", "build/release", "--target", "hypertower_floors"], cwd=ROOT,
                   check=True, capture_output=True)
    rates = Floors(1).measure()
    assert min(rates) > 1e8  # any processor of the last twenty years


def test_a_tiny_run_compares_ours_and_names_a_missing_peer(tmp_path: Path) -> None:
    session = Session(tmp_path, limit=60)
    cases = [Case("gaussian", 600, 16, 8, 5), Case("gaussian", 600, 16, 8, 5, 0.5),
             Case("ties", 600, 16, 8, 5)]
    ours = session.measure(cases, [OURS], 0.0)
    assert [(m.checked, m.compared, m.skipped) for m in ours] == [(True, 3, "")] * 3
    assert all(m.slots and m.seconds("wall") > 0 for m in ours)
    (missing,) = session.measure(cases[:1], ["nobody"], 0.0)
    assert missing.skipped == "KeyError: 'nobody'" and not missing.checked
    assert session.scratch(cases[0]) >= 0


def test_a_slow_worker_is_ended_and_starts_again(tmp_path: Path) -> None:
    worker = Worker(OURS, 1)
    worker.use(Dataset(tmp_path, "gaussian", 100, 8).items())
    session = Session(tmp_path, limit=60)
    message = session.message("answer", Case("gaussian", 100, 8, 1, 3), rows=[0],
                              out=str(tmp_path / "a.npz"))
    try:
        assert worker.ask(message, 60)["seconds"] > 0
        with pytest.raises(Failed, match="no answer within 0 s"):
            worker.ask({**message, "do": "time", "seconds": 5, "floors": False}, 0)
        assert worker.ask(message, 60)["seconds"] > 0
    finally:
        worker.end()


def measured(case: Case, name: str, seconds: float, **more: object) -> Measurement:
    slot = Slot(seconds, seconds, 0.005, 0.005) if name == OURS else Slot(seconds, seconds)
    return Measurement(case, name, checked=True, compared=2, slots=[slot] * 3, **more)


def all_rows() -> list[scores.Row]:
    plan = Plan.full(2)
    (case, *_), filters = plan.peer_cases(2), plan.filter_cases()
    peers = [measured(case, OURS, 0.01),
             measured(case, "faiss-best", 0.05,
                      about={"version": "1", "blas": "OpenBLAS 0 SkylakeX"}),
             Measurement(case, "usearch", skipped="no answer within 60 s")]
    ours = [measured(c, OURS, 0.01) for c in filters]
    return [
        *scores.peer_rows(peers),
        *scores.floor_rows([[measured(case, OURS, s)] for s in (0.03, 0.01)]),
        *scores.filter_rows(ours),
        *scores.thread_rows([measured(c, OURS, 0.02 / c.threads) for c in plan.thread_cases()]),
        *scores.growth_rows([measured(c, OURS, c.rows * 1e-8) for c in plan.growth_cases()]),
        scores.memory_row(plan.memory_case(), 4_096_000, True),
        scores.mismatch_row(peers, "all cases timed"),
    ]


def test_rows_keep_the_contract_and_the_page_says_what_was_reached(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common import Suite

    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--json", str(file)])
    suite = Suite("test")
    for row in all_rows():
        suite.add(**row)
    rows = json.loads(file.read_text())
    assert all(list(r) == ROW_KEYS for r in rows)
    assert {r["id"] for r in rows} == {"S5", "S6", "S8", "S9", "S10", "S12", "S13"}

    def first(row_id: str) -> dict:
        return next(r for r in rows if r["id"] == row_id)

    assert first("S10")["value"] == pytest.approx(5.0)
    assert first("S10")["case"]["peer"] == "faiss-best" and first("S10")["case"]["threads"] == 2
    assert (first("S9")["value"], first("S9")["seconds"]) == (2.0, 0.01)
    assert first("S12")["value"] == pytest.approx(2.0)
    assert first("S13")["value"] == pytest.approx(1.0)
    assert first("S6")["value"] == pytest.approx(0.001)
    skipped = [r for r in rows if r["value"] is None]
    assert [r["case"]["skipped"] for r in skipped] == ["no answer within 60 s"]

    text = page(rows, "scripts/bench topk", "topk.svg")
    assert "OpenBLAS 0 SkylakeX" in text and "usearch: no answer within 60 s" in text
    assert "| ≥ 4 | **5** | met |" in text and "| ≤ 1.25 | **2** | missed |" in text
    image = picture(rows)
    assert image.startswith("<svg") and "1 query" in image and "faiss-best" in image


def test_a_wrong_answer_of_ours_counts_and_is_never_timed() -> None:
    case = Case("ties", 10, 2, 1)
    wrong = Measurement(case, OURS, compared=2, mismatches=1, skipped="wrong answer of query 1: x")
    row = scores.mismatch_row([wrong], "adversarial")
    assert (row["value"], row["case"]["first"]) == (1.0, "ties: wrong answer of query 1: x")
    (left_out,) = scores.peer_rows([wrong])
    assert left_out["value"] is None


def test_plans_name_every_shape_once() -> None:
    assert len(set(adversarial_cases(2))) == 4 * len(ADVERSARIAL)
    blocks = list(grid_cases(2, {"D": {"128"}, "data": {"gaussian"}}))
    assert len(blocks) == 3 and len({c for b in blocks for c in b}) == 3 * 4 * 3 * 5
    assert {c.rows for b in blocks for c in b} == {100_000, 1_000_000, 10_000_000}
