// The candidates of a sample: all items of a few tiles. The queues of the scans, which hits are
// meant to be rare for, would cost more than the products, and so would a counter that each hit
// asks: a warp asks once for all of its items. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_scan_dot.cuh"

namespace hypertower::cuda {

inline constexpr int kSeedThreads = 2 * kItemTile;

// Blocks (place in the list of rows, share of the tiles). Dynamic shared memory: the codes of a
// row.
__global__ void __launch_bounds__(kSeedThreads)
    topk_seed_kernel(const __grid_constant__ Scan scan) {
  DYN_SHARED(int4, query);  // [chunks]
  if (blockIdx.x >= *scan.list.size) return;
  const Rows& rows = scan.rows;
  const int64_t row = scan.list.rows[blockIdx.x];
  const ItemCodes items = scan.plan->items;
  const TileSet tiles = scan.tiles();
  const int chunks = scan.chunks;
  const int lane = static_cast<int>(lane_index());
  for (int c = static_cast<int>(threadIdx.x); c < chunks; c += kSeedThreads) {
    query[c] = reinterpret_cast<const int4*>(rows.codes)[row * chunks + c];
  }
  __syncthreads();
  const RowBound row_bound = rows.bounds[row];
  const int slot = static_cast<int>(threadIdx.x) % kItemTile;
  for (int i = static_cast<int>(2 * blockIdx.y + threadIdx.x / kItemTile); i < tiles.count;
       i += static_cast<int>(2 * gridDim.y)) {
    const int64_t tile = tiles[i];
    const int64_t position = tile * kItemTile + slot;
    const ItemBound item = items.bounds[position];  // early: it is waited for at the end
    const auto* codes =
        reinterpret_cast<const uint4*>(items.codes) + tile * chunks * kItemTile + slot;
    int dot = 0;
#pragma unroll 8
    for (int c = 0; c < chunks; ++c) dot = dot16(ptx::ld_nc(codes + c * kItemTile), query[c], dot);
    const bool found =
        item.scale != 0.0F && allowed(scan.in, row, item.id) && !scan.listed.contains(row, item.id);
    const unsigned all = __ballot_sync(kFullMask, found);
    unsigned first = 0;
    if (lane == 0 && all != 0) {
      first = atomicAdd(&rows.hits[row], static_cast<unsigned>(__popc(all)));
    }
    first = __shfl_sync(kFullMask, first, 0);
    const unsigned place = first + static_cast<unsigned>(__popc(all & ((1U << lane) - 1)));
    if (found && place < rows.capacity) {
      rows.candidates[row * rows.stride + place] =
          topk_key::make(upper_bound(row_bound, item, dot), item.id);
    }
  }
}

}  // namespace hypertower::cuda
