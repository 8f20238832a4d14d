"""The audit of compiled kernels: its rules on a listing written by hand, and on what nvcc makes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "gpu_audit"
spec = spec_from_loader("gpu_audit", SourceFileLoader("gpu_audit", str(PROGRAM)))
assert spec and spec.loader
audit = module_from_spec(spec)
sys.modules["gpu_audit"] = audit
spec.loader.exec_module(audit)

# A loop of one kernel, as cuobjdump prints it: the ids are loaded one by one before the loop.
SASS = """
	code for sm_80
		Function : _Z3dotPKfS0_
        /*0000*/                   LDG.E R4, [R2.64] ;          /* 0x0000000c04047981 */
        /*0010*/                   {load} R8, [R6.64] ;         /* 0x0000000806087981 */
        /*0020*/                   FFMA R0, R8, R4, R0 ;        /* 0x0000000408007223 */
        /*0030*/                   {extra} ;                    /* 0x0000000408007223 */
        /*0040*/               @P0 BRA 0x10 ;                   /* 0xffffffd000000947 */
        /*0050*/                   EXIT ;                       /* 0x000000000000794d */
        /*0060*/                   BRA 0x60;                    /* 0xfffffff000007947 */
"""
RESOURCES = """
arch = sm_80
 Function _Z3dotPKfS0_:
  REG:{registers} STACK:0 SHARED:{shared} LOCAL:0 CONSTANT[0]:372 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


def findings(declared: dict, load: str = "LDG.E.128", extra: str = "FADD R1, R1, R0",
             registers: int = 40, shared: int = 0) -> list[str]:
    sass = SASS.format(load=load, extra=extra)
    resources = RESOURCES.format(registers=registers, shared=shared)
    return audit.check(audit.read_object(sass, resources, declared), declared)


def test_accepts_a_kernel_that_keeps_its_word() -> None:
    assert findings({"dot": {"vector_loads": True, "max_registers": 40}}) == []
    assert findings({}, load="LDG.E") == []


def test_finds_each_broken_rule() -> None:
    vector = {"dot": {"vector_loads": True}}
    assert "declared vectorised, loads 32 bits" in findings(vector, load="LDG.E")[0]
    assert "loads 64 bits" in findings(vector, load="LDG.E.64.CONSTANT")[0]
    assert findings({"dot": {"vector_loads": True, "whole": True}}, load="LDG.E",
                    extra="LDG.E.128 R8, [R6.64]") == []
    assert "1 instructions touch local memory" in findings({}, extra="STL [R1], R4")[0]
    assert "its hot loop has none" in findings({"dot": {"tensor_cores": True}})[0]
    assert findings({"dot": {"tensor_cores": True}}, extra="HMMA.16816.F32 R1, R2, R3, R1") == []
    assert "does not" in findings({"dot": {"bulk_copies": True}})[0]
    assert findings({"dot": {"bulk_copies": True}}, extra="UBLKCP.S.G [UR4], [UR6], UR8") == []
    assert "occupancy 75%, declared 100%" in findings({"dot": {"min_occupancy": 1.0}})[0]
    assert "41 registers, declared at most 40" in findings(
        {"dot": {"max_registers": 40}}, registers=41)[0]
    assert "no kernel has it" in findings({"dott": {"vector_loads": True}})[0]
    assert 'unknown word "vector_load"' in findings({"dot": {"vector_load": True}})[0]


def test_a_declaration_may_be_about_one_architecture() -> None:
    assert findings({"dot": {"tensor_cores": True, "arch": "sm_90"}}) == []
    assert len(findings({"dot": {"tensor_cores": True, "arch": "sm_80"}})) == 1


def test_the_hot_loop_is_the_one_with_tensor_cores() -> None:
    waits = [(0x20, "SYNCS.PHASECHK.TRANS64.TRYWAIT", "P0"), (0x30, "BRA", "0x20")]
    code = [(0x10, "IGMMA.64x128x32.S8.S8", "R24"), *waits, (0x40, "BRA", "0x10")]
    sums = [(0x50, "FADD", "R1, R1, R2"), (0x60, "FADD", "R1, R1, R2"), (0x70, "BRA", "0x50")]
    assert audit.hot_loop(code + sums)[0].startswith("IGMMA")


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "expected"),
    [(32, 0, 256, 1.0), (40, 0, 256, 0.75), (255, 0, 256, 0.125), (32, 84 * 1024, 512, 0.25)],
)
def test_occupancy_is_what_registers_and_shared_memory_allow(
    registers: int, shared: int, threads: int, expected: float
) -> None:
    assert audit.occupancy("sm_80", registers, shared, threads) == expected


KERNELS = """
__global__ void scale_one(const float* a, float* b, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) b[i] = a[i] * 2;
}
__global__ void scale_four(const float4* a, float4* b, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    float4 v = a[i];
    b[i] = make_float4(v.x * 2, v.y * 2, v.z * 2, v.w * 2);
  }
}
__global__ void look_up(const float* a, const int* at, float* b) {
  float kept[64];
  for (int i = 0; i < 64; ++i) kept[i] = a[i];
  for (int i = 0; i < 9; ++i) b[i] = kept[at[i]];
}
"""


def test_reads_what_nvcc_makes(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc", path="/usr/local/cuda/bin") or shutil.which("nvcc")
    if not nvcc or not audit.find_cuobjdump():
        pytest.skip("needs nvcc and cuobjdump")
    (tmp_path / "kernels").mkdir()
    source = tmp_path / "kernels" / "k.cu"
    source.write_text(KERNELS)
    subprocess.run([nvcc, "-arch=sm_80", "-O3", "-c", source, "-o", f"{source}.o"], check=True)
    declared = tmp_path / "audit.json"
    declared.write_text('{"scale": {"vector_loads": true}}')
    result = subprocess.run(
        [sys.executable, PROGRAM, "--build", tmp_path, "--declared", declared],
        capture_output=True, text=True,
    )
    assert result.returncode == 1
    broken = [line for line in result.stdout.splitlines() if "[sm_80]" in line]
    assert len(broken) == 2, result.stdout
    assert any("scale_one" in line and "loads 32 bits" in line for line in broken)
    assert any("look_up" in line and "local memory" in line for line in broken)


def test_skips_with_a_message_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, PROGRAM, "--build", tmp_path],
                            capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout == f"gpu_audit: skipped, no CUDA objects in {tmp_path}\n"
