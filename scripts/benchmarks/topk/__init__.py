"""The parts of `scripts/bench topk`: exact top-K on the CPU against its peers and its limits.

Read in this order: cases.py (what is measured), data.py (on what), oracle.py (the right answers),
competitors.py (who is measured), worker.py and pool.py (a process for each of them), measure.py
(turns), scores.py (from times to rows), report.py (rows for people).
"""
