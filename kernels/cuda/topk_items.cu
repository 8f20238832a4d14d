// Three kernels: the scale of every item, a sort by it, then the codes tile by tile. Traffic: the
// floats twice, the codes once; bound by memory, but for the sort.
#include "kernels/cuda/topk_items.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"
#include "kernels/cuda/topk_codes.cuh"
#include "kernels/cuda/topk_quantize.cuh"

namespace hypertower::cuda {
namespace {

constexpr int kItemThreads = 256;
constexpr int kLanes = 8;  // of an item: 16 columns each cover D = 128 at once
constexpr int kItemsAtOnce = kItemThreads / kLanes;

// keys: ascending keys are falling scales.
template <bool kVector>
__global__ void __launch_bounds__(kItemThreads)
    topk_item_scale_kernel(MatrixView<const float> items, uint32_t* keys, uint32_t* ids) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kItemsAtOnce + threadIdx.x / kLanes;
  const int64_t item = at < items.rows ? at : items.rows - 1;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const float scale = code_scale<kLanes, kVector>(items.data + item * items.ld, items.cols, lane);
  if (lane != 0 || at >= items.rows) return;
  keys[item] = ~__float_as_uint(scale);
  ids[item] = static_cast<uint32_t>(item);
}

// Block per tile.
template <bool kVector>
__global__ void __launch_bounds__(kItemThreads)
    topk_item_codes_kernel(MatrixView<const float> items, const uint32_t* keys, const uint32_t* ids,
                           int chunks, uint4* codes, ItemBound* bounds, TileBound* tiles) {
  SHARED(ItemBound, of_tile, [kItemTile]);
  const int64_t tile = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int slot = static_cast<int>(threadIdx.x) / kLanes; slot < kItemTile; slot += kItemsAtOnce) {
    const int64_t position = tile * kItemTile + slot;
    const bool real = position < items.rows;
    const uint32_t id = real ? ids[position] : 0;
    const float scale = real ? __uint_as_float(~keys[position]) : FLT_MIN;
    const auto store = [&](int c, uint4 sixteen) {
      codes[(tile * chunks + c) * kItemTile + slot] = sixteen;
    };
    const CodeNorms norm = quantize<kLanes, kVector>(
        items.data + id * items.ld, real ? items.cols : 0, chunks, lane, scale, store);
    if (lane != 0) continue;
    const float residual =
        __double2float_ru(norm.residual + static_cast<double>(norm.vector) * 0x1p-40);
    of_tile[slot] = {real ? scale : 0.0F, residual, norm.codes, id};
    bounds[position] = of_tile[slot];
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const int64_t left = items.rows - tile * kItemTile;
  bound_tile(of_tile, left < kItemTile ? static_cast<int>(left) : kItemTile, &tiles[tile]);
}

bool rows_are_aligned(MatrixView<const float> m) {
  return m.ld % 4 == 0 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

int chunks_of(int64_t dim) {
  return static_cast<int>(std::max<int64_t>(1, ceil_div<int64_t>(dim, 2 * kCodeChunk))) * 2;
}

}  // namespace

struct DeviceItems::Memory : CodeMemory {
  using CodeMemory::CodeMemory;
};

DeviceItems::DeviceItems(MatrixView<const float> items, void* stream_handle)
    : items_(items),
      memory_(std::make_unique<Memory>(static_cast<int>(ceil_div<int64_t>(items.rows, kItemTile)),
                                       chunks_of(items.cols),
                                       static_cast<cudaStream_t>(stream_handle))) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const int64_t n = items.rows;
  const Scratch<uint32_t> keys(n, stream), ids(n, stream), sorted_keys(n, stream),
      sorted_ids(n, stream);
  const bool vector = rows_are_aligned(items);
  check(launch(vector ? topk_item_scale_kernel<true> : topk_item_scale_kernel<false>,
               {.grid = static_cast<unsigned>(ceil_div<int64_t>(n, kItemsAtOnce)),
                .block = kItemThreads,
                .stream = stream,
                .name = "topk_item_scale"},
               items, keys.data(), ids.data()),
        "topk items");
  const size_t bytes = sort_pairs_workspace_bytes<uint32_t>(n, 0, 32);
  const Scratch<unsigned char> workspace(bytes, stream);
  sort_pairs<uint32_t>(workspace.data(), bytes, keys.data(), sorted_keys.data(), ids.data(),
                       sorted_ids.data(), n, 0, 32, stream);
  check(launch(vector ? topk_item_codes_kernel<true> : topk_item_codes_kernel<false>,
               {.grid = static_cast<unsigned>(codes().num_tiles),
                .block = kItemThreads,
                .stream = stream,
                .name = "topk_item_codes"},
               items, sorted_keys.data(), sorted_ids.data(), codes().chunks, memory_->codes(),
               memory_->bounds(), memory_->tiles()),
        "topk items");
}

DeviceItems::~DeviceItems() = default;

ItemCodes DeviceItems::codes() const {
  return memory_->view();
}

int64_t DeviceItems::bytes() const {
  return memory_->bytes();
}

bool DeviceItems::supports(int64_t rows, int64_t cols) {
  return rows > 0 && cols <= kMaxCodeDim;
}

}  // namespace hypertower::cuda
