"""`hypertower doctor`: is everything there, and does it fit together? Never raises."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass

from . import _core
from ._memory import default_threads


@dataclass(frozen=True)
class Finding:
    """One line of the report; `ok` None = worth knowing, neither good nor bad."""

    what: str
    value: str
    ok: bool | None = None
    cure: str = ""


def program(name: str) -> str | None:
    """Path of one of our programs: inside the package, or beside a build tree."""
    here = os.path.dirname(os.path.abspath(__file__))
    module = os.path.dirname(os.path.abspath(_core.__file__ or here))
    room = name.split("-")[1].replace("train", "trainer")
    build = os.path.dirname(os.path.dirname(module))
    candidates = [os.path.join(module, "bin", name), os.path.join(build, room, name)]
    return next((c for c in candidates if os.access(c, os.X_OK)), None)


def _package(name: str, needed: bool) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", False if needed else None,
                       f"pip install {name}" if needed else "")


def _libraries(path: str) -> Finding:
    name = os.path.basename(path)
    try:
        out = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired) as e:
        return Finding(name, f"{path} (ldd: {e})")
    missing = [line.split()[0] for line in out.splitlines() if "not found" in line]
    if missing:
        return Finding(name, f"{path}, lacks {', '.join(missing)}", False,
                       "install the pinned torch and pyarrow wheels, or build again")
    return Finding(name, path, True)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            lines = f.read().splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    pairs = {k.strip(): v.strip() for k, v in facts.items()}
    flags = set(pairs.get("flags", "").split())
    wide = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if f in flags]
    return f"{pairs.get('model name', 'unknown')}, {default_threads()} threads, {' '.join(wide)}"


def examine() -> list[Finding]:
    """All findings, in the order in which they are printed."""
    findings = [
        Finding("hypertower", str(_core.version), True),
        Finding("python", platform.python_version(), True),
        Finding("machine", f"{platform.system()} {platform.machine()}"),
        Finding("cpu", _cpu()),
    ]
    for name, needed in (("numpy", True), ("pyarrow", True), ("torch", True), ("pandas", False),
                         ("polars", False)):
        findings.append(_package(name, needed))
    findings.append(Finding("gpu", "usable" if _core.cuda_available()
                            else "none usable: training and serving run on the CPU"))
    for name in ("hypertower-train", "hypertower-server"):
        path = program(name)
        findings.append(_libraries(path) if path else Finding(
            name, "not found", False, "pip install . (or build the target of that name)"))
    from ._torch_part import load_trainer
    from .errors import HypertowerError

    try:
        load_trainer()
        findings.append(Finding("trainer module", "loads", True))
    except HypertowerError as e:
        findings.append(Finding("trainer module", str(e), False))
    return findings
