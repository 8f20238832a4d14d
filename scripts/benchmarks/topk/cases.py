"""What is measured: one search as a value, and the lists of searches of each kind of run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

GENERATED = ("gaussian", "low-rank", "heavy-tailed")
PEERS = ("faiss-default", "faiss-best", "torch", "numpy", "usearch")
OURS = "hypertower"


@dataclass(frozen=True)
class Case:
    """One search: `batch` queries for the `k` best of `rows` items, `filter` of them not allowed.

    `mask`: a `random` one for all queries; a `range` of ids for all queries; `own`: every query
    brings a random mask of its own and 1,000 ids to leave out.
    """

    data: str
    rows: int
    dim: int
    batch: int
    k: int = 100
    filter: float = 0.0
    threads: int = 1
    mask: str = "random"

    def keys(self) -> dict[str, Any]:
        """The plain keys that name this case in a row."""
        keys: dict[str, Any] = {"N": self.rows, "D": self.dim, "B": self.batch, "K": self.k,
                                "filter": self.filter, "data": self.data, "threads": self.threads}
        if self.filter:
            keys["mask"] = self.mask
        return keys

    def message(self) -> dict[str, Any]:
        """All fields, for the pipe to a worker."""
        return asdict(self)

    def work(self) -> float:
        """Seconds it takes, up to a factor: the scores to compute and the items to read."""
        return float(self.rows) * self.dim * (self.batch + 8)


@dataclass(frozen=True)
class Plan:
    """The sizes of one run of the scoreboard."""

    rows: int
    fewer_rows: int
    more_rows: int
    threads: tuple[int, ...]
    processes: int  # fresh ones for the ratio to the floor, of which the best counts
    seconds: float  # spent on timing one case of one competitor
    batches: tuple[int, ...] = (1, 32, 256)
    dim: int = 128

    @staticmethod
    def full(cores: int) -> Plan:
        return Plan(1_000_000, 100_000, 10_000_000, tuple(sorted({1, cores})), 5, 2.0)

    @staticmethod
    def quick(cores: int) -> Plan:
        return Plan(100_000, 50_000, 200_000, (cores,), 2, 0.3)

    @property
    def most_threads(self) -> int:
        return self.threads[-1]

    def _gaussian(self, threads: int, **fields: Any) -> Case:
        return replace(Case("gaussian", self.rows, self.dim, 1, threads=threads), **fields)

    def floor_cases(self, threads: int) -> list[Case]:
        """Held against the limits of the machine."""
        return [self._gaussian(threads, batch=b, k=k) for k in (100, 1000) for b in self.batches]

    def peer_cases(self, threads: int) -> list[Case]:
        """Held against the peers, without and with half of the items filtered out."""
        return [self._gaussian(threads, batch=b, filter=f)
                for f in (0.0, 0.5) for b in self.batches if f == 0.0 or b > 1]

    def range_cases(self, threads: int) -> list[Case]:
        """A filter that is a range of ids, which faiss alone knows how to use."""
        return [self._gaussian(threads, batch=b, filter=0.5, mask="range")
                for b in self.batches[1:]]

    def other_data_cases(self) -> list[Case]:
        """Held against the peers on data that is harder to cut off than gaussian."""
        return [self._gaussian(self.most_threads, data=data, batch=b)
                for data in GENERATED[1:] for b in self.batches[1:]]

    def filter_cases(self) -> list[Case]:
        """A filter must not cost, and a strict one must pay; first of each group: no filter."""
        shares = (0.0, 0.5, 0.9, 0.99, 0.9999)
        return [self._gaussian(self.most_threads, batch=self.batches[1], filter=f, mask=mask)
                for mask in ("random", "own") for f in shares if f or mask == "random"]

    def memory_case(self) -> Case:
        return self._gaussian(self.most_threads, batch=1024)

    def thread_cases(self) -> list[Case]:
        """Batches where arithmetic and not memory decides, by one thread and by all."""
        return [self._gaussian(t, batch=b) for t in sorted({1, self.most_threads})
                for b in self.batches[1:]]

    def growth_cases(self) -> list[Case]:
        """The same search over few and over many items."""
        return [self._gaussian(self.most_threads, batch=b, rows=rows)
                for rows in (self.fewer_rows, self.more_rows) for b in self.batches[1:]]


ADVERSARIAL = ("ties", "constant", "zero", "one-hot", "huge-and-tiny", "nearly-equal", "sorted",
               "odd-dim")


def adversarial_cases(threads: int) -> list[Case]:
    """Small catalogues on which a wrong bound, a wrong tie or a lost candidate shows."""
    return [Case(data, 20_000, 67 if data == "odd-dim" else 64, 32, k, f, threads)
            for data in ADVERSARIAL for k, f in ((1, 0.0), (100, 0.0), (100, 0.9), (1000, 0.99))]


def grid_cases(threads: int, only: dict[str, set[str]]) -> Iterator[list[Case]]:
    """The whole grid as lists that share their items; `only` keeps the values named."""
    def wanted(key: str, values: Iterable[Any]) -> list[Any]:
        return [v for v in values if key not in only or f"{v:g}" in only[key]]

    data = [d for d in GENERATED if "data" not in only or d in only["data"]]
    sizes = product(data, wanted("N", (100_000, 1_000_000, 10_000_000)),
                    wanted("D", (64, 128, 256)))
    for name, rows, dim in sizes:
        yield [Case(name, rows, dim, b, k, f, threads)
               for f in wanted("filter", (0.0, 0.5, 0.9, 0.999))
               for k in wanted("K", (10, 100, 1000))
               for b in wanted("B", (1, 8, 32, 256, 1024))]
