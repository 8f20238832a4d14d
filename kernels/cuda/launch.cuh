// The only CUDA header that kernels include. nvcc compiles it against the toolkit; any other
// compiler (with HYPERTOWER_CUEMU defined) gets tests/cuemu, which runs the same sources on the
// CPU.
//
// How to write a kernel here:
//   template <int kTile>
//   __global__ void __launch_bounds__(256) scale_kernel(const float* x, int64_t n, float* y) {
//     SHARED(float, tile, [kTile][33]);      // static: type without commas, name, dimensions or
//     none DYN_SHARED(float, scratch);            // dynamic: float* scratch, LaunchConfig::smem
//     bytes
//     ...
//   }
//   check(launch(scale_kernel<32>, {.grid = 4, .block = 256, .smem = 0, .stream = stream,
//                                   .name = "scale"}, x, n, y), "scale");
// Rules, because the emulator and the memory model both hold us to them:
//   - `launch`, never <<<>>>; `SHARED` / `DYN_SHARED`, never __shared__; both are 16-byte aligned
//     and uninitialised (0xFF bytes under the emulator).
//   - Inline PTX only in kernels/cuda/ptx.cuh, each wrapper with its host twin. No
//     cooperative_groups, no CUB inside kernels; device-wide sorts and scans: kernels/cuda/sort.h.
//   - No lockstep: __syncwarp orders memory between lanes, shuffles and votes do not. Full masks
//     with all lanes kept in the loop; no __activemask.
//   - Every thread of a block reaches every __syncthreads (no early return before one).
//   - Between blocks publish with store_release / fetch_add_acq_rel and read with load_acquire
//     below, not with __threadfence. Spin loops contain __nanosleep.
//   - Use __fmaf_rn, __fadd_rn, __fmul_rn where bits must equal the CPU's: nvcc contracts a * b +
//   c.
#pragma once

#include "kernels/error.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#if defined(HYPERTOWER_CUEMU)
#include "tests/cuemu/cuemu.h"
#elif defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cuda/atomic>

#define SHARED(type, name, ...) __shared__ alignas(16) type name __VA_ARGS__
#define DYN_SHARED(type, name)                                            \
  extern __shared__ __align__(128) unsigned char hypertower_dyn_shared[]; \
  type* const name = reinterpret_cast<type*>(hypertower_dyn_shared)
#else
#error "kernels/cuda/launch.cuh needs nvcc, or HYPERTOWER_CUEMU with tests/cuemu"
#endif

namespace hypertower {

struct LaunchConfig {
  dim3 grid = 1;
  dim3 block = 1;
  size_t smem = 0;  // dynamic shared memory in bytes, at most 227 KiB
  cudaStream_t stream = nullptr;
  bool cooperative = false;    // all blocks alive at once
  const char* name = nullptr;  // of the kernel, for messages
#if defined(HYPERTOWER_CUEMU)
  const char* file = __builtin_FILE();
  int line = __builtin_LINE();
#endif
};

// Enqueues kernel(args...) on cfg.stream. Arguments convert to the kernel's parameter types. The
// status is the launch's own; faults while it runs surface at the next synchronising call.
template <class... P, class... A>
[[nodiscard]] cudaError_t launch(void (*kernel)(P...), const LaunchConfig& cfg, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "launch: wrong number of kernel arguments");
#if defined(HYPERTOWER_CUEMU)
  const cuemu::Grid grid{.grid = cfg.grid,
                         .block = cfg.block,
                         .dynamic_shared = cfg.smem,
                         .cooperative = cfg.cooperative,
                         .name = cfg.name,
                         .file = cfg.file,
                         .line = cfg.line};
  return cuemu::launch<P...>(kernel, grid, cfg.stream, std::forward<A>(args)...);
#else
  if (cfg.smem > 48 * 1024) {  // more than the default needs consent
    const cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(cfg.smem));
    if (status != cudaSuccess) return status;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = cfg.grid;
  config.blockDim = cfg.block;
  config.dynamicSmemBytes = cfg.smem;
  config.stream = cfg.stream;
  config.attrs = &attribute;
  config.numAttrs = cfg.cooperative ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...);
#endif
}

// Throws an Error that names `what` when a CUDA call failed.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // this error is reported here and must not be found by a later check
  throw Error(ErrorKind::kArgument,
              std::string(what) + ": expected the CUDA call to succeed, got " +
                  cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ").");
}

}  // namespace hypertower

#include "kernels/cuda/device_ops.cuh"
#include "kernels/cuda/ptx.cuh"
