#include "kernels/cpu/topk_tile.h"

namespace hypertower::cpu {
namespace {

namespace baseline {
#define TILE_TARGET
#define TILE_NAME "baseline"
#define TILE_WIDTH 2
#include "kernels/cpu/topk_tile.inc"
#undef TILE_TARGET
#undef TILE_NAME
#undef TILE_WIDTH
}  // namespace baseline

#ifdef __x86_64__
namespace avx2 {
#define TILE_TARGET [[gnu::target("avx2,fma")]]
#define TILE_NAME "avx2"
#define TILE_WIDTH 4
#include "kernels/cpu/topk_tile.inc"
#undef TILE_TARGET
#undef TILE_NAME
#undef TILE_WIDTH
}  // namespace avx2

namespace avx512 {
#define TILE_TARGET [[gnu::target("avx512f,avx512vl,avx512dq,avx512bw")]]
#define TILE_NAME "avx512"
#define TILE_WIDTH 8
#include "kernels/cpu/topk_tile.inc"
#undef TILE_TARGET
#undef TILE_NAME
#undef TILE_WIDTH
}  // namespace avx512
#endif

}  // namespace

std::vector<const TileKernels*> supported_tile_kernels() {
  std::vector<const TileKernels*> kernels;
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    kernels.push_back(&avx512::kKernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back(&avx2::kKernels);
  }
#endif
  kernels.push_back(&baseline::kKernels);
  return kernels;
}

const TileKernels& tile_kernels() {
  static const TileKernels* const kernels = supported_tile_kernels().front();
  return *kernels;
}

}  // namespace hypertower::cpu
