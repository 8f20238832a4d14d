"""How numpy arrays and torch tensors are handed to the kernels: as addresses and shapes.

One small class per library, so that `ops` is written once. Torch is only looked at when the caller
has already imported it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import _core
from ._arguments import is_tensor, need_int, need_integers, shown
from .errors import ArgumentError

Memory = tuple[int, int, int, int]
ABSENT: Memory = (0, 0, 0, 0)
Op = TypeVar("Op", bound=Callable[..., Any])


def uncompiled(op: Op) -> Op:
    """`op` for callers that `torch.compile` may trace: it is called as it is. A trace would let go
    of tensors once their addresses are taken, and the kernels would read what is no longer there.
    """
    plain: Any = None

    @functools.wraps(op)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal plain
        if plain is None and "torch" in sys.modules:
            plain = sys.modules["torch"].compiler.disable(op)
        return (plain or op)(*args, **kwargs)

    return call  # type: ignore[return-value]


def default_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """0 = as many as there are cores."""
    return 0 if threads is None else need_int("threads", threads, 0, 65_536)


class NumpyBackend:
    """Arrays of numpy, or anything `numpy.asarray` takes."""

    name = "numpy"
    types = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "u64": np.uint64}

    def place(self, threads: int | None) -> tuple[bool, int, int]:
        return (False, thread_count(threads) or default_threads(), 0)

    def array(self, x: Any, dtype: str, name: str = "array") -> np.ndarray:
        if dtype == "i64":
            x = need_integers(name, x)
        try:
            return np.ascontiguousarray(np.asarray(x), dtype=self.types[dtype])
        except (TypeError, ValueError) as e:
            raise ArgumentError(f"{name}: expected numbers, got {shown(x)} ({e}).") from e

    def empty(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return np.empty(shape, dtype=self.types[dtype])

    def empty_for_host(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """To be read by the host once the call is over."""
        return self.empty(shape, dtype)

    def memory(self, x: np.ndarray | None) -> Memory:
        if x is None:
            return ABSENT
        if x.ndim == 1:
            return (x.ctypes.data, x.shape[0], 1, 1)
        return (x.ctypes.data, x.shape[0], x.shape[1], x.shape[1])


class TorchBackend:
    """Tensors of torch on the device of the first one."""

    name = "torch"

    def __init__(self, tensor: Any) -> None:
        import torch

        _core.share_openmp_threads()
        self.torch = torch
        self.device = tensor.device
        self.types = {
            "f32": torch.float32,
            "i64": torch.int64,
            "i32": torch.int32,
            "u64": torch.int64,  # the bits are what counts
        }

    def place(self, threads: int | None) -> tuple[bool, int, int]:
        cuda = self.device.type == "cuda"
        stream = self.torch.cuda.current_stream(self.device).cuda_stream if cuda else 0
        return (cuda, thread_count(threads) or self.torch.get_num_threads(), stream)

    def array(self, x: Any, dtype: str, name: str = "array") -> Any:
        if (isinstance(x, self.torch.Tensor) and x.dtype is self.types[dtype]
                and x.device == self.device and x.is_contiguous() and not x.requires_grad):
            return x  # as most are, and there may be a hundred in a call
        if dtype == "i64":
            x = need_integers(name, x)
        if isinstance(x, np.ndarray) and x.dtype == np.uint64:
            x = x.view(np.int64)
        try:
            tensor = self.torch.as_tensor(x, device=self.device)
        except (TypeError, ValueError) as e:
            raise ArgumentError(f"{name}: expected numbers, got {shown(x)} ({e}).") from e
        return tensor.detach().to(self.types[dtype]).contiguous()

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.torch.empty(shape, dtype=self.types[dtype], device=self.device)

    def empty_for_host(self, shape: tuple[int, ...], dtype: str) -> Any:
        """To be read by the host once the call is over: pinned, so that a GPU writes it there."""
        return self.torch.empty(shape, dtype=self.types[dtype],
                                pin_memory=self.device.type == "cuda")

    def memory(self, x: Any) -> Memory:
        if x is None:
            return ABSENT
        if x.dim() == 1:
            return (x.data_ptr(), x.shape[0], 1, 1)
        return (x.data_ptr(), x.shape[0], x.shape[1], x.shape[1])


Backend = NumpyBackend | TorchBackend


def backend_of(*arrays: Any) -> Backend:
    """Torch when any argument is a tensor, else numpy."""
    for x in arrays:
        if is_tensor(x):
            return TorchBackend(x)
    return NumpyBackend()


def need_matrix(name: str, x: Any) -> None:
    if x.ndim != 2:
        raise ArgumentError(
            f"{name}: expected a matrix of two dimensions, got shape {tuple(x.shape)}."
        )


def need_length(name: str, x: Any, expected: int, what: str) -> None:
    if x.ndim != 1 or x.shape[0] != expected:
        raise ArgumentError(
            f"{name}: expected {expected} values, one per {what}, got shape {tuple(x.shape)}."
        )
