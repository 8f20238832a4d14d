"""`ops.EmbeddingTables`: tables of embeddings whose optimizer is part of the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from . import _core
from ._arguments import need_int, shown
from ._memory import Memory, TorchBackend
from .errors import ArgumentError
from .ops import _bag_arrays

_DRAWN_AT_ONCE = 65_536  # rows
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class _Lookup:
    """The ids of one table's features in one forward pass: their bags one after the other."""

    def __init__(self, name: str, b: TorchBackend, parts: list[tuple[Any, Any, Any]],
                 vocabulary: _Vocabulary | None, learn: bool) -> None:
        self.bags = [p[1].shape[0] - 1 for p in parts]
        if len(parts) == 1:
            self.ids, self.offsets, self.weights = parts[0]
        else:
            self.ids = torch.cat([p[0] for p in parts])
            starts = [0]
            for p in parts:
                starts.append(starts[-1] + p[0].shape[0])
            self.offsets = torch.cat(
                [parts[0][1][:1], *(p[1][1:] + s for p, s in zip(parts, starts, strict=False))])
            weighted = any(p[2] is not None for p in parts)
            self.weights = torch.cat(
                [torch.ones(p[0].shape[0], device=b.device) if p[2] is None else p[2]
                 for p in parts]) if weighted else None
        self.changes: tuple[Any, Any] | None = None
        if vocabulary is not None:
            rows, self.changes = vocabulary.rows_of(self.ids, learn)
            self.ids, self.offsets, self.weights = _without_unknown(rows, self.offsets,
                                                                    self.weights)
        self.memory = _core.LookupMemory(name, b.memory(self.ids), b.memory(self.offsets),
                                         b.memory(self.weights))


def _without_unknown(rows: Any, offsets: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Bags without the ids that have no row."""
    known = rows >= 0
    sound = bool(offsets[0] == 0) and bool(offsets[-1] == rows.shape[0]) and bool(
        (offsets.diff() >= 0).all())
    if bool(known.all()) or not sound:  # the kernel says what is wrong with offsets
        return rows, offsets, weights
    kept = torch.cat([known.new_zeros(1, dtype=torch.int64), known.cumsum(0)])
    return rows[known], kept[offsets], None if weights is None else weights[known]


class _Vocabulary:
    """Which row of a table each id has; learns ids as they come."""

    def __init__(self, table: str, rows: int, options: Mapping[str, Any]) -> None:
        known = {"admit_after": 1, "evict": "none"}
        for name in options:
            if name not in known:
                raise ArgumentError(f"dynamic: unknown option '{name}' of table '{table}'; known "
                                    "are 'admit_after', 'evict'.")
        merged = {**known, **options}
        self._options = (rows, need_int("admit_after", merged["admit_after"], 1, 255),
                         merged["evict"])
        self.ids = _core.IdTable(*self._options, None)
        self.counts = {"admitted": 0, "evicted": 0, "failed": 0}

    def rows_of(self, ids: Any, learn: bool) -> tuple[Any, tuple[Any, Any] | None]:
        """Rows, -1 where an id has none; and the rows that got owners with their ids."""
        host = ids.cpu()
        rows = torch.empty_like(host)
        b = TorchBackend(host)
        where = b.memory(host), b.memory(rows), b.place(None)[1]
        if not learn:
            self.ids.find(*where)
            return rows.to(ids.device), None
        changed, owners, evicted, _, failed = self.ids.assign(*where)
        self.counts["admitted"] += len(changed)
        self.counts["evicted"] += evicted
        self.counts["failed"] += failed
        return rows.to(ids.device), (torch.from_numpy(changed), owners)

    def save(self) -> dict[str, Any]:
        def tensor(value: Any) -> Any:
            if not hasattr(value, "dtype"):
                return value
            return torch.from_numpy(value.astype("int64") if value.dtype == "uint32" else value)

        saved = {name: tensor(value) for name, value in self.ids.save().items()}
        return {**saved, "counts": dict(self.counts)}

    def load(self, saved: Mapping[str, Any]) -> None:
        arrays = {name: value.numpy() if isinstance(value, torch.Tensor) else value
                  for name, value in saved.items() if name != "counts"}
        self.ids = _core.IdTable(*self._options, arrays)
        self.counts = dict(saved["counts"])

    def __getstate__(self) -> dict[str, Any]:
        return {"_options": self._options, "saved": self.save()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options = state["_options"]
        self.load(state["saved"])


class _Step(torch.autograd.Function):
    """Forward looks up; backward updates the tables and has no gradient to hand on."""

    @staticmethod
    def forward(ctx: Any, anchor: Any, tables: EmbeddingTables, names: list[str],
                lookups: list[_Lookup]) -> tuple[Any, ...]:
        ctx.call = (tables, names, lookups)
        return tuple(tables._look_up(names, lookups))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[None, ...]:
        tables, names, lookups = ctx.call
        tables._step(names, lookups, grads)
        return None, None, None, None


class EmbeddingTables(torch.nn.Module):
    """Tables of embeddings whose optimizer is part of the backward pass.

        tables = ops.EmbeddingTables({"item": (1_000_000, 128), "genre": (30, 16)}, lr=0.05)
        vectors = tables({"item": item_ids, "genre": (genre_ids, offsets)})   # name -> [bags, dim]
        loss(vectors["item"], vectors["genre"]).backward()      # the touched rows have been updated

    No gradient of a table exists: `backward` sums the gradients of each touched row and applies one
    step to it, so `tables.parameters()` is empty and nothing is left for a torch optimizer to do.

    tables: name -> (rows, dim). features: name -> table, for features that share tables; without it
    every table is a feature of its name. mode "sum" or "mean". dtype float32, bfloat16 or float16;
    rows of 16 bits are rounded stochastically by `seed`, sums and optimizer state stay float32.
    optimizer "sgd", "rowwise_adagrad", "adagrad" or "adam" (lazy: the moments of rows that a batch
    does not name stand still), with `weight_decay` decoupled, on touched rows. `lr` may be set
    between steps. `state_dict()` holds rows, optimizer state and the number of steps.

    dynamic: table -> {"admit_after": 1, "evict": "none"}, for tables whose ids are any 64-bit
    numbers: an id gets a row once it was seen `admit_after` times in training, its first weights
    drawn by `seed` and id. A full table takes in nobody, or with evict "least_recent" or
    "least_frequent" the rows of other ids, whose weights and optimizer state begin anew; rows that
    a backward pass still has to update are never taken. An id without a row adds nothing to its
    bag and does not count in its mean. In `eval()` or without gradients nothing is learned.
    `vocabulary(table)` tells what is known.

    forward: feature -> ids [bags, length], or (ids, offsets), or (ids, offsets, weights), as in
    `ops.embedding_bag`. Returns float32 vectors by feature.
    """

    def __init__(self, tables: Mapping[str, tuple[int, int]], *,
                 features: Mapping[str, str] | None = None,
                 dynamic: Mapping[str, Mapping[str, Any]] | None = None, mode: str = "sum",
                 dtype: torch.dtype = torch.float32, optimizer: str = "rowwise_adagrad",
                 lr: float = 0.01, eps: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999),
                 weight_decay: float = 0.0, seed: int = 0, threads: int | None = None,
                 device: Any = None) -> None:
        super().__init__()
        if dtype not in _DTYPES:
            raise ArgumentError("dtype: expected torch.float32, torch.bfloat16 or torch.float16, "
                                f"got {dtype}.")
        self.features = dict(features) if features is not None else {name: name for name in tables}
        for feature, table in self.features.items():
            if table not in tables:
                raise ArgumentError(f"features: feature '{feature}' expects a table '{table}'; "
                                    f"known are {', '.join(map(repr, tables))}.")
        self.mode, self.lr, self.steps, self._threads = mode, lr, 0, threads
        self._settings = (optimizer, lr, eps, *betas, weight_decay, seed)
        self._rule = _core.OptimizerStep(*self._settings)
        self._memories: dict[str, tuple[Any, _core.TableMemory]] = {}  # what it was made of, and it
        self._dtype = _DTYPES[dtype]
        self._names = list(tables)
        self._vocabularies: dict[str, _Vocabulary] = {}
        for table, options in (dynamic or {}).items():
            if table not in tables:
                raise ArgumentError(f"dynamic: unknown table '{table}'; known are "
                                    f"{', '.join(map(repr, tables))}.")
            self._vocabularies[table] = _Vocabulary(table, tables[table][0], options)
        tables = {n: (self._vocabularies[n].ids.rows if n in self._vocabularies else rows, dim)
                  for n, (rows, dim) in tables.items()}
        self._shapes, self._begins = tables, False
        generator = torch.Generator().manual_seed(seed)
        for i, (rows, dim) in enumerate(tables.values()):
            weight = torch.empty(rows, dim, dtype=dtype, device=device)
            _core.advise_huge_pages(weight.data_ptr(), weight.nbytes if weight.is_cpu else 0)
            for block in weight.split(_DRAWN_AT_ONCE):  # the same for every dtype and device
                drawn = torch.empty(block.shape)
                block.copy_(drawn.uniform_(-dim**-0.5, dim**-0.5, generator=generator))
            self.register_buffer(f"weight{i}", weight)
            for s, cols in enumerate(_core.optimizer_state_cols(optimizer, dim)):
                self.register_buffer(f"state{s}_{i}", torch.zeros(rows, cols, device=device))
        self.register_buffer("_anchor", torch.zeros((), device=device), persistent=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rule": None, "_memories": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._rule = _core.OptimizerStep(*self._settings)

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps,
                "vocabularies": {n: v.save() for n, v in self._vocabularies.items()}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.steps, self._begins = state["steps"], True  # no gradient is under way
        for name, saved in state["vocabularies"].items():
            self._vocabularies[name].load(saved)

    def vocabulary(self, table: str) -> dict[str, Any]:
        """Of a dynamic table: `ids` ascending and their `rows`, and how many ids have been
        admitted, evicted, and refused for want of a row so far."""
        vocabulary = self._vocabularies[table]
        saved = vocabulary.save()
        return {"ids": saved["ids"], "rows": saved["rows"], **vocabulary.counts}

    def weight(self, table: str) -> torch.Tensor:
        """The rows of a table [rows, dim]."""
        return getattr(self, f"weight{self._names.index(table)}")

    @torch.compiler.disable  # a compiled model calls it as it is
    def forward(self, bags: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        unknown = [f for f in bags if f not in self.features]
        if unknown:
            raise ArgumentError(f"EmbeddingTables: unknown feature '{unknown[0]}'; known are "
                                f"{', '.join(map(repr, self.features))}.")
        b = TorchBackend(self._anchor)
        of_table: dict[str, list[str]] = {}
        for feature in bags:
            of_table.setdefault(self.features[feature], []).append(feature)
        learn = self.training and torch.is_grad_enabled()
        if learn and self._begins:
            for vocabulary in self._vocabularies.values():
                vocabulary.ids.begin_step()
            self._begins = False
        lookups = [_Lookup("+".join(features), b, [_parts(b, f, bags[f]) for f in features],
                           self._vocabularies.get(table), learn)
                   for table, features in of_table.items()]
        for table, lookup in zip(of_table, lookups, strict=True):
            if lookup.changes is not None:
                self._begin_rows(table, *lookup.changes)
        anchor = self._anchor.detach().requires_grad_() if torch.is_grad_enabled() else self._anchor
        outs = _Step.apply(anchor, self, list(of_table), lookups)
        vectors = {}
        for features, lookup, out in zip(of_table.values(), lookups, outs, strict=True):
            parts = (out,) if len(features) == 1 else out.split(lookup.bags)
            vectors.update(zip(features, parts, strict=True))
        return {feature: vectors[feature] for feature in bags}

    @torch.no_grad()
    def _begin_rows(self, name: str, rows: Any, ids: Any) -> None:
        """First weights and empty optimizer state for rows that belong to these ids now."""
        if not len(ids):
            return
        place = self._names.index(name)
        drawn = torch.from_numpy(_core.initial_rows(ids, self._shapes[name][1], self._settings[-1]))
        rows = rows.to(self._anchor.device)
        weight = self._buffers[f"weight{place}"]
        weight.index_copy_(0, rows, drawn.to(weight))
        for state in ("state0_", "state1_"):
            self._buffers[f"{state}{place}"].index_fill_(0, rows, 0.0)

    def _memory(self, name: str) -> _core.TableMemory:
        i = self._names.index(name)
        weight, *states = (self._buffers[f"{kind}{i}"] for kind in ("weight", "state0_", "state1_"))
        # Whoever moves, loads or converts the module puts other tensors there.
        made_of = [(t.data_ptr(), t.dtype) for t in (weight, *states)]
        if name not in self._memories or self._memories[name][0] != made_of:
            if _DTYPES.get(weight.dtype) != self._dtype or states[0].dtype != torch.float32:
                raise ArgumentError(
                    f"EmbeddingTables: expected rows of table '{name}' as {self._dtype} and "
                    f"optimizer state as float32, got {weight.dtype} and {states[0].dtype}; move "
                    "the module by .to(device) alone and choose dtype when it is made.")
            rows: Memory = (weight.data_ptr(), *weight.shape,
                            weight.stride(0) * weight.element_size())
            b = TorchBackend(self._anchor)
            self._memories[name] = made_of, _core.TableMemory(rows, self._dtype,
                                                              *(b.memory(t) for t in states))
        return self._memories[name][1]

    def _look_up(self, names: list[str], lookups: list[_Lookup]) -> list[torch.Tensor]:
        b = TorchBackend(self._anchor)
        outs = [b.empty((sum(lookup.bags), self._shapes[name][1]), "f32")
                for name, lookup in zip(names, lookups, strict=True)]
        _core.embedding_lookup([self._memory(n) for n in names], [x.memory for x in lookups],
                               self.mode, [b.memory(o) for o in outs], b.place(self._threads))
        return outs

    def _step(self, names: list[str], lookups: list[_Lookup], grads: tuple[Any, ...]) -> None:
        b = TorchBackend(self._anchor)
        place = b.place(self._threads)
        memories = [x.memory for x in lookups]
        plans = _core.EmbeddingPlans([self._shapes[n][0] for n in names], memories, place)
        gradients = [b.array(g, "f32") for g in grads]
        self._rule.step, self._rule.lr = self.steps + 1, self.lr
        _core.embedding_step([self._memory(n) for n in names], memories, plans, self.mode,
                             [b.memory(g) for g in gradients], self._rule, place)
        self.steps += 1
        self._begins = True


def _parts(b: TorchBackend, feature: str, bags: Any) -> tuple[Any, Any, Any]:
    """ids, offsets and weights of one feature."""
    if not isinstance(bags, (tuple, list)):
        bags = (bags,)
    if not 1 <= len(bags) <= 3:
        raise ArgumentError(f"EmbeddingTables: feature '{feature}' expects ids, (ids, offsets) or "
                            f"(ids, offsets, weights), got {shown(bags)}.")
    return _bag_arrays(b, *bags, *([None] * (3 - len(bags))))
