#include "kernels/cuda/topk_scan_chunks.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_queue.cuh"

namespace hypertower::cuda {
namespace {

constexpr int kCodesThreads = 256;
constexpr int kFilterThreads = 256;
constexpr int kFilterWarps = kFilterThreads / 32;
constexpr int kFilterBlocks = 4;  // per multiprocessor

// The codes of `count` tiles from `first` on, item by item, as a matrix product reads them.
__global__ void __launch_bounds__(kCodesThreads)
    topk_chunk_codes_kernel(ItemCodes items, TileSet tiles, int first, int count, int4* out) {
  const int64_t per_tile = int64_t{items.chunks} * kItemTile;
  const int64_t step = int64_t{gridDim.x} * kCodesThreads;
  for (int64_t i = int64_t{blockIdx.x} * kCodesThreads + threadIdx.x; i < count * per_tile;
       i += step) {
    const int tile = static_cast<int>(i / per_tile);
    const int64_t within = i % per_tile;
    const int64_t slot = within % kItemTile;
    const uint4 v = ptx::ld_nc(reinterpret_cast<const uint4*>(items.codes) +
                               tiles[first + tile] * per_tile + within);
    out[(int64_t{tile} * kItemTile + slot) * items.chunks + within / kItemTile] =
        *reinterpret_cast<const int4*>(&v);
  }
}

// A warp takes a row and reads the products of one tile after the other, 16 bytes a lane.
__global__ void __launch_bounds__(kFilterThreads, kFilterBlocks)
    topk_chunk_filter_kernel(const __grid_constant__ Scan scan, const TileBound* bounds,
                             TileSet tiles, int first, int count, const int* products) {
  SHARED(Hit, queues, [kFilterWarps][kHitQueue]);
  SHARED(int, rows, [kFilterWarps]);
  const int size = scan.list.count();
  const BlockShare share(ceil_div(size, kFilterWarps));
  const int lane = static_cast<int>(lane_index());
  const int warp = __shfl_sync(kFullMask, static_cast<int>(threadIdx.x) / 32, 0);
  for (int unit = share.first(); unit < share.units(); unit += share.step()) {
    const int place = share.group(unit) * kFilterWarps + warp;
    if (place >= size) continue;
    const int row = scan.list.rows[place];
    __syncwarp();
    if (lane == 0) rows[warp] = row;
    __syncwarp();
    HitQueue queue(scan, queues[warp], &rows[warp]);
    const RowGate gate = make_gate(scan.rows.bounds[row], scan.rows.threshold[row]);
    const auto* from =
        reinterpret_cast<const uint4*>(products + int64_t{row} * count * kItemTile) + lane;
    const auto load = [&](int i) {
      return i < count ? ptx::ld_nc(from + int64_t{i} * (kItemTile / 4)) : uint4{};
    };
    uint4 next = load(share.split(unit));
    for (int i = share.split(unit); i < count; i += share.splits) {
      const uint4 v = next;
      next = load(i + share.splits);  // on its way while the votes below wait
      const int64_t tile = tiles[first + i];
      const int least = least_dot(gate, bounds[tile]);
      const int dots[4] = {static_cast<int>(v.x), static_cast<int>(v.y), static_cast<int>(v.z),
                           static_cast<int>(v.w)};
      const bool any = max(max(dots[0], dots[1]), max(dots[2], dots[3])) >= least;
      if (!__any_sync(kFullMask, any)) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        queue.push(dots[j] >= least, tile * kItemTile + 4 * lane + j, dots[j], 0);
      }
    }
    queue.drain();
  }
}

int chunk_tiles(int64_t rows, const ItemCodes& items, int64_t products) {
  if (products == 0) {
    int device = 0;
    int l2_bytes = 0;
    check(cudaGetDevice(&device), "topk scan");
    check(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device), "topk scan");
    products = l2_bytes / 2 / static_cast<int64_t>(sizeof(int));
  }
  return static_cast<int>(
      std::clamp<int64_t>(products / (rows * kItemTile), 1, std::max(items.num_tiles, 1)));
}

}  // namespace

ChunkScan::ChunkScan(int64_t max_rows, const ItemCodes& items, int64_t products,
                     cudaStream_t stream)
    : items_(items),
      chunk_tiles_(chunk_tiles(max_rows, items, products)),
      matmul_(int64_t{items.chunks} * kCodeChunk),
      codes_(int64_t{chunk_tiles_} * kItemTile * items.chunks, stream),
      products_(max_rows * chunk_tiles_ * kItemTile, stream) {}

void ChunkScan::run(const Scan& scan, const TileSet& tiles, int multiprocessors,
                    cudaStream_t stream) {
  const int64_t rows = scan.in.queries.rows;
  for (int first = 0; first < tiles.count; first += chunk_tiles_) {
    const int count = std::min(chunk_tiles_, tiles.count - first);
    const int64_t num_codes = int64_t{count} * kItemTile * items_.chunks;
    check(launch(topk_chunk_codes_kernel,
                 {.grid = static_cast<unsigned>(std::min<int64_t>(
                      ceil_div<int64_t>(num_codes, kCodesThreads), 8 * multiprocessors)),
                  .block = kCodesThreads,
                  .stream = stream,
                  .name = "topk_chunk_codes"},
                 items_, tiles, first, count, codes_.data()),
          "topk scan");
    matmul_.run(scan.rows.codes, rows, reinterpret_cast<const int8_t*>(codes_.data()),
                int64_t{count} * kItemTile, products_.data(), stream);
    const int64_t units = ceil_div<int64_t>(rows, kFilterWarps) * count;
    check(launch(topk_chunk_filter_kernel,
                 {.grid = static_cast<unsigned>(
                      std::min<int64_t>(units, int64_t{multiprocessors} * kFilterBlocks)),
                  .block = kFilterThreads,
                  .stream = stream,
                  .name = "topk_chunk_filter"},
                 scan, items_.tiles, tiles, first, count, products_.data()),
          "topk scan");
  }
}

}  // namespace hypertower::cuda
