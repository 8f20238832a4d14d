"""The speed limits of this machine, measured: int8 dot products a second, bytes read a second.

`scripts/bench` builds floors.cpp as a target of its own. Measured in the process that searches,
just before and just after, so that a slow moment of the machine slows both.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import NamedTuple

import numpy as np

LIBRARY = (Path(__file__).resolve().parents[2] / "build" / "release" / "scripts" / "benchmarks"
           / "libhypertower_floors.so")
DOT_ROUNDS = 1 << 22  # about 20 ms
LEAST_BUFFER = 256 << 20


def last_level_cache() -> int:
    """Bytes of the largest cache, or 32 MiB where the system does not tell."""
    sizes = [int(file.read_text().strip().removesuffix("K")) << 10
             for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max(sizes, default=32 << 20)


class Rates(NamedTuple):
    """Work a second by the wall clock, and a second of processor time times the threads."""

    dot_wall: float
    dot_cpu: float
    read_wall: float
    read_cpu: float


class Floors:
    """Measures with a fixed number of threads over a buffer of its own."""

    def __init__(self, threads: int) -> None:
        self._library = ctypes.CDLL(str(LIBRARY))
        instruction = self._library.hypertower_floor_instruction
        instruction.restype = ctypes.c_char_p
        name = instruction()
        if name is None:
            raise OSError("this processor has no AVX2, so nothing here measures its limits")
        self.instruction = name.decode()
        self._dot, self._read = (self._library.hypertower_floor_dot,
                                 self._library.hypertower_floor_read)
        self._dot.restype = self._read.restype = ctypes.c_double
        self._threads = threads
        self._buffer = np.ones(max(LEAST_BUFFER, 4 * last_level_cache()), np.uint8)

    def measure(self) -> Rates:
        wall, cpu = ctypes.c_double(), ctypes.c_double()
        times = ctypes.byref(wall), ctypes.byref(cpu)
        operations = self._dot(self._threads, ctypes.c_int64(DOT_ROUNDS), *times)
        dot = operations / wall.value, operations * self._threads / cpu.value
        read = self._read(self._threads, ctypes.c_void_p(self._buffer.ctypes.data),
                          ctypes.c_int64(self._buffer.nbytes), *times)
        return Rates(*dot, read / wall.value, read * self._threads / cpu.value)


def floor_seconds(rates: Rates, clock: str, rows: int, dim: int, batch: int) -> float:
    """The least time of one search: all int8 scores computed, all int8 items read.

    Items that fit the last-level cache may be read faster than memory, so there arithmetic is the
    only limit that holds.
    """
    dot, read = ((rates.dot_wall, rates.read_wall) if clock == "wall"
                 else (rates.dot_cpu, rates.read_cpu))
    arithmetic = 2.0 * rows * dim * batch / dot
    return max(arithmetic, rows * dim / read if rows * dim > last_level_cache() else 0.0)
