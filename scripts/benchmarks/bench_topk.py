"""Exact top-K: hypertower against faiss, torch, numpy, usearch, and the limits of the machine.

Without options the scoreboard (S5, S6, S8, S9, S10, S12, S13) on 1M x 128; --quick the same on
small shapes; --grid every shape, for hours; --device cuda against torch on the same GPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Suite
from topk import scores
from topk.cases import OURS, PEERS, Case, Plan, adversarial_cases, grid_cases
from topk.data import adopt
from topk.measure import Measurement, Session, say


def add(suite: Suite, rows: Any) -> None:
    for row in rows:
        suite.add(**row)


def scoreboard(suite: Suite, session: Session, plan: Plan) -> list[Measurement]:
    """All sections; returns what of ours was compared with the oracle."""
    seen: list[Measurement] = []

    def measure(*arguments: Any, **options: Any) -> list[Measurement]:
        done = session.measure(*arguments, **options)
        seen.extend(done)
        return done

    say("adversarial catalogues against the oracle (S8)")
    cases = adversarial_cases(plan.most_threads)
    add(suite, [scores.mismatch_row(session.measure(cases, [OURS], 0.0), "adversarial")])
    for threads in plan.threads:
        say(f"against the floors, {threads} thread(s), {plan.processes} processes (S9)")
        cases = plan.floor_cases(threads)
        add(suite, scores.floor_rows([measure(cases, [OURS], plan.seconds, floors=True)
                                      for _ in range(plan.processes)]))
    for threads in plan.threads:
        say(f"against the peers, {threads} thread(s) (S10)")
        add(suite, scores.peer_rows(measure(plan.peer_cases(threads), [OURS, *PEERS],
                                            plan.seconds)))
        add(suite, scores.peer_rows(measure(plan.range_cases(threads), [OURS, *PEERS[:2]],
                                            plan.seconds)))
    say("other data against the peers (S10)")
    add(suite, scores.peer_rows(measure(plan.other_data_cases(), [OURS, "faiss-best"],
                                        plan.seconds)))
    say("filters (S5)")
    add(suite, scores.filter_rows(measure(plan.filter_cases(), [OURS], plan.seconds)))
    say("memory (S6)")
    case = plan.memory_case()
    checked = measure([case], [OURS], 0.0)[0].checked
    add(suite, [scores.memory_row(case, session.scratch(case), checked)])
    if plan.most_threads > 1:
        say("threads (S12)")
        add(suite, scores.thread_rows(measure(plan.thread_cases(), [OURS], plan.seconds)))
    say(f"growth to {plan.more_rows:,} items (S13)")
    add(suite, scores.growth_rows(measure(plan.growth_cases(), [OURS], plan.seconds)))
    return seen


def trained(suite: Suite, session: Session, model: Path | None, plan: Plan) -> list[Measurement]:
    """The catalogue of a trained model, asked with the query tower's own vectors."""
    if model is None:
        say("no --model DIR: the items of a trained model are left out")
        return []
    import hypertower as ht

    rec = ht.Recommender.from_pretrained(str(model))
    ids = [i.item() if hasattr(i, "item") else i for i in rec.item_ids_]
    queries = rec.encode_query([{"history": [{"item": i}]} for i in ids[:1024]])
    dataset = adopt(session.folder, f"model {model.name}", rec.encode_item(ids), queries)
    cases = [Case(dataset.name, dataset.rows, dataset.dim, b, threads=plan.most_threads)
             for b in plan.batches]
    done = session.measure(cases, [OURS, *PEERS], plan.seconds)
    add(suite, scores.peer_rows(done))
    return done


def grid(suite: Suite, session: Session, threads: int, only: dict[str, set[str]],
         seconds: float) -> list[Measurement]:
    """Every shape, row by row into the file, with the time left by the work done so far."""
    blocks = list(grid_cases(threads, only))
    total = sum(case.work() for block in blocks for case in block)
    start, worked, seen = time.monotonic(), 0.0, []
    for number, block in enumerate(blocks, 1):
        first = block[0]
        say(f"{number} of {len(blocks)}: {first.data}, {first.rows:,} x {first.dim}")
        # A few cases at a time keep the turns of a competitor close together.
        for share in sorted({case.filter for case in block}):
            cases = [case for case in block if case.filter == share]
            whole = share == 0.0  # a filter may spare reading, so the floor is none
            done = session.measure(cases, [OURS, *PEERS], seconds, floors=whole)
            seen += done
            if whole:
                ours = [m for m in done if m.competitor == OURS][:len(cases)]
                add(suite, scores.floor_rows([ours]))
            add(suite, scores.peer_rows(done))
            worked += sum(case.work() for case in cases)
            left = (time.monotonic() - start) * (total - worked) / worked
            say(f"{worked / total:.1%} done, about {left / 60:.0f} min left")
        shutil.rmtree(session.folder)  # the next items may need the room
        session.folder.mkdir()
    return seen


def only_of(texts: list[str]) -> dict[str, set[str]]:
    """--only D=128 N=1000000,10000000 as values by key."""
    out = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or key not in ("N", "D", "B", "K", "filter", "data"):
            sys.exit(f"bench topk: --only: expected N, D, B, K, filter or data=VALUE, got '{text}'")
        out[key] = {v if key == "data" else f"{float(v):g}" for v in values.split(",")}
    return out


def main() -> None:
    suite = Suite(
        __doc__ or "", model="model directory whose items are searched too",
        grid={"action": "store_true",
              "help": "every shape, for hours; rows are written as they come"},
        only={"nargs": "*", "default": [], "metavar": "KEY=VALUE",
              "help": "of the grid only these, such as D=128 N=100000,1000000"},
        limit={"type": float, "default": 60.0,
               "help": "seconds that one search of a peer may take, else it is left out"})
    if suite.device == "cuda":
        from topk.gpu import against_torch

        against_torch(suite)
        return
    # Whoever ends a run early must not leave gigabytes of items in the temporary folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench topk: stopped"))
    cores = len(os.sched_getaffinity(0))
    plan = Plan.quick(cores) if suite.quick else Plan.full(cores)
    model = Path(suite.options.model) if suite.options.model else None
    with tempfile.TemporaryDirectory(prefix="hypertower-bench-") as temporary:
        session = Session(Path(temporary), suite.options.limit)
        if suite.options.grid:
            seen = grid(suite, session, cores, only_of(suite.options.only), plan.seconds / 4)
        else:
            seen = scoreboard(suite, session, plan)
            seen += trained(suite, session, model, plan)
    add(suite, [scores.mismatch_row(seen, "all cases timed")])


if __name__ == "__main__":
    main()
