// Few rows against all items: a thread takes an item, so a warp's load is 512 neighbouring bytes
// and each byte of the codes is read once. Bound by memory up to about 16 rows (kernels/README.md).
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_queue.cuh"

namespace hypertower::cuda {

inline constexpr int kDotThreads = kItemTile;
// Per multiprocessor, as registers allow; each thread has four loads of 16 bytes in flight.
template <int kRows>
inline constexpr int kDotBlocks = kRows == 1   ? 8
                                  : kRows <= 4 ? 5
                                               : 4;

inline size_t dot_scan_shared(int rows, int chunks) {
  return static_cast<size_t>(rows) * chunks * kCodeChunk;
}

__device__ __forceinline__ int dot16(const uint4& a, const int4& b, int sum) {
  sum = __dp4a(static_cast<int>(a.x), b.x, sum);
  sum = __dp4a(static_cast<int>(a.y), b.y, sum);
  sum = __dp4a(static_cast<int>(a.z), b.z, sum);
  return __dp4a(static_cast<int>(a.w), b.w, sum);
}

// Blocks share groups of kRows rows and, for each group, the tiles.
template <int kRows>
__global__ void __launch_bounds__(kDotThreads, kDotBlocks<kRows>)
    topk_scan_dot_kernel(const __grid_constant__ Scan scan) {
  DYN_SHARED(int4, queries);  // [kRows][chunks]
  SHARED(Hit, queues, [kDotThreads / 32][kHitQueue]);
  SHARED(int, rows, [32]);
  const ItemCodes items = scan.plan->items;
  const TileSet tiles = scan.tiles();
  const int chunks = scan.chunks;
  const int size = scan.list.count();
  const BlockShare share(ceil_div(size, kRows));
  const int lane = static_cast<int>(lane_index());
  for (int unit = share.first(); unit < share.units(); unit += share.step()) {
    const int first = share.group(unit) * kRows;
    __syncthreads();
    if (threadIdx.x < 32) {
      rows[threadIdx.x] = first + lane < size ? scan.list.rows[first + lane] : 0;
    }
    for (int i = static_cast<int>(threadIdx.x); i < kRows * chunks; i += kDotThreads) {
      const int64_t row = first + i / chunks < size ? scan.list.rows[first + i / chunks] : 0;
      queries[i] = reinterpret_cast<const int4*>(scan.rows.codes)[row * chunks + i % chunks];
    }
    __syncthreads();
    HitQueue queue(scan, queues[threadIdx.x / 32], rows);
    RowGate gate{};
    if (lane < kRows && first + lane < size) {
      gate = make_gate(scan.rows.bounds[rows[lane]], scan.rows.threshold[rows[lane]]);
    }
    for (int i = share.split(unit); i < tiles.count; i += share.splits) {
      const int64_t tile = tiles[i];
      const auto* codes =
          reinterpret_cast<const uint4*>(items.codes) + tile * chunks * kItemTile + threadIdx.x;
      const TileBound bound = items.tiles[tile];  // early: it is waited for at the end
      int dots[kRows] = {};
#pragma unroll 4
      for (int c = 0; c < chunks; ++c) {
        const uint4 x = ptx::ld_nc(codes + c * kItemTile);
#pragma unroll
        for (int r = 0; r < kRows; ++r) dots[r] = dot16(x, queries[r * chunks + c], dots[r]);
      }
      const int least = least_dot(gate, bound);  // lane r speaks for row r
      unsigned hits = 0;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        hits |= (dots[r] >= __shfl_sync(kFullMask, least, r) ? 1U : 0U) << r;
      }
      while (__any_sync(kFullMask, hits != 0)) {
        const int row = hits != 0 ? __ffs(static_cast<int>(hits)) - 1 : 0;
        queue.push(hits != 0, tile * kItemTile + threadIdx.x, pick<kRows>(dots, row), row);
        hits &= hits - 1;
      }
    }
    queue.drain();
  }
}

}  // namespace hypertower::cuda
