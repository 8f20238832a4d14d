// The first threshold of each row, from all items of a few tiles. Each of them is a candidate, so
// the queues of the scans, which hits are meant to be rare for, would cost more than the products.
// Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_merge.cuh"
#include "kernels/cuda/topk_scan_dot.cuh"

namespace hypertower::cuda {

// Block per row of the list. `rank`: as topk_refine_kernel; 0 leaves the threshold as it is.
// Dynamic shared memory: the codes of a row.
__global__ void __launch_bounds__(kSelectThreads)
    topk_seed_kernel(const __grid_constant__ Scan scan, BestKeys scored, int64_t rank,
                     float forced) {
  constexpr int kAtOnce = 2;  // items of a thread
  DYN_SHARED(int4, query);    // [chunks]
  SHARED(unsigned, found, );
  if (blockIdx.x >= *scan.list.size) return;
  const Rows& rows = scan.rows;
  const int64_t row = scan.list.rows[blockIdx.x];
  const int chunks = scan.items.chunks;
  for (int c = static_cast<int>(threadIdx.x); c < chunks; c += kSelectThreads) {
    query[c] = reinterpret_cast<const int4*>(rows.codes)[row * chunks + c];
  }
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  const RowBound row_bound = rows.bounds[row];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  const int64_t size = int64_t{scan.tiles.count} * kItemTile;
  for (int64_t begin = threadIdx.x; begin < size; begin += kAtOnce * kSelectThreads) {
    int64_t position[kAtOnce];
    const uint4* codes[kAtOnce];
    int dot[kAtOnce] = {};
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int64_t i = min(begin + u * kSelectThreads, size - 1);
      const int64_t tile = scan.tiles[static_cast<int>(i / kItemTile)];
      position[u] = tile * kItemTile + i % kItemTile;
      codes[u] = reinterpret_cast<const uint4*>(scan.items.codes) + tile * chunks * kItemTile +
                 i % kItemTile;
    }
#pragma unroll 4
    for (int c = 0; c < chunks; ++c) {
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        dot[u] = dot16(ptx::ld_nc(codes[u] + c * kItemTile), query[c], dot[u]);
      }
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      if (begin + u * kSelectThreads >= size || position[u] >= scan.items.num_items) continue;
      const ItemBound item = scan.items.bounds[position[u]];
      if (!allowed(scan.in, row, item.id) || scan.listed.contains(row, item.id)) continue;
      const unsigned place = atomicAdd(&found, 1U);
      if (place < rows.capacity) {
        keys[place] = topk_key::make(upper_bound(row_bound, item, dot[u]), item.id);
      }
    }
  }
  __syncthreads();
  const unsigned hits = found;
  if (threadIdx.x == 0) rows.hits[row] = hits;
  __syncthreads();
  if (rank > 0) raise_threshold(scan.in, rows, row, rank, forced, scored);
}

}  // namespace hypertower::cuda
