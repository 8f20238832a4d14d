#include "kernels/cuda/topk_pack.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace hypertower::cuda {
namespace {

constexpr int kPackThreads = 256;
constexpr int kPackWarps = kPackThreads / 32;
// Places of a group: a word of bits per thread.
constexpr int kGroupPlaces = kPackThreads * 32;
constexpr int kGroupTiles = kGroupPlaces / kItemTile;
constexpr int kWordsAtOnce = 4;  // loads in flight

struct PackLimits {
  int64_t gathered, most;  // of items: more than the first and up to the second are packed
};

// One thread. The other kernels here find !plan->packed and return where nothing is to do.
__global__ void topk_pack_plan_kernel(const unsigned* passed, RowPlan rows, PackLimits limits,
                                      ItemCodes all, ItemCodes packed, ScanPlan* plan) {
  const int64_t items = *passed;
  const bool packs = items > limits.gathered && items <= limits.most;
  const auto tiles = static_cast<int>(ceil_div<int64_t>(items, kItemTile));
  plan->packed = packs;
  plan->items = packs ? packed : all;
  plan->tiles = plan_tiles(rows, packs ? tiles : all.num_tiles, kItemTile);
}

// Block per group of places: which of their items pass, and how many.
__global__ void __launch_bounds__(kPackThreads)
    topk_pack_mask_kernel(TopKInput in, ItemCodes all, const ScanPlan* plan, uint32_t* words,
                          unsigned* counts) {
  SHARED(unsigned, of_warp, [kPackWarps]);
  if (!plan->packed) return;
  const int lane = static_cast<int>(lane_index());
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t first_word = int64_t{blockIdx.x} * kPackThreads + warp * 32;
  const int64_t end = int64_t{all.num_tiles} * kItemTile;
  uint32_t own = 0;  // the word that this lane writes
  for (int w = 0; w < 32; w += kWordsAtOnce) {
    ItemBound items[kWordsAtOnce];
#pragma unroll
    for (int i = 0; i < kWordsAtOnce; ++i) {
      const int64_t place = (first_word + w + i) * 32 + lane;
      items[i] = place < end ? all.bounds[place] : ItemBound{};
    }
#pragma unroll
    for (int i = 0; i < kWordsAtOnce; ++i) {
      const uint32_t id = items[i].id;
      const bool passes = items[i].scale != 0.0F && (in.masks[id / 64] >> (id % 64) & 1) != 0;
      const unsigned word = __ballot_sync(kFullMask, passes);
      if (lane == w + i) own = word;
    }
  }
  words[first_word + lane] = own;
  const unsigned count = warp_reduce_sum(static_cast<unsigned>(__popc(own)));
  if (lane == 0) of_warp[warp] = count;
  __syncthreads();
  if (threadIdx.x != 0) return;
  unsigned sum = 0;
  for (int i = 0; i < kPackWarps; ++i) sum += of_warp[i];
  counts[blockIdx.x] = sum;
}

// Block per group: where the items that pass lie in `all`, in its order.
__global__ void __launch_bounds__(kPackThreads)
    topk_pack_places_kernel(const ScanPlan* plan, const uint32_t* words, const unsigned* counts,
                            uint32_t* places) {
  SHARED(unsigned, before, [kPackWarps]);
  SHARED(unsigned, of_warp, [kPackWarps]);
  if (!plan->packed) return;
  const int lane = static_cast<int>(lane_index());
  const int warp = static_cast<int>(threadIdx.x) / 32;
  unsigned others = 0;  // in the groups before
  for (unsigned g = threadIdx.x; g < blockIdx.x; g += kPackThreads) others += counts[g];
  others = warp_reduce_sum(others);
  const int64_t at = int64_t{blockIdx.x} * kPackThreads + threadIdx.x;
  uint32_t word = words[at];
  const auto own = static_cast<unsigned>(__popc(word));
  unsigned up_to = own;  // in the words of the warp up to this
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const unsigned left = __shfl_up_sync(kFullMask, up_to, step);
    up_to += lane >= step ? left : 0;
  }
  if (lane == 31) of_warp[warp] = up_to;
  if (lane == 0) before[warp] = others;
  __syncthreads();
  unsigned to = up_to - own;
  for (int i = 0; i < kPackWarps; ++i) to += before[i] + (i < warp ? of_warp[i] : 0);
  for (; word != 0; word &= word - 1) {
    places[to++] = static_cast<uint32_t>(at * 32 + __ffs(static_cast<int>(word)) - 1);
  }
}

// Blocks share the tiles: codes and bounds of the items in `places`.
__global__ void __launch_bounds__(kPackThreads)
    topk_pack_codes_kernel(ItemCodes all, const ScanPlan* plan, const unsigned* passed,
                           const uint32_t* places, uint4* codes, ItemBound* bounds,
                           TileBound* tiles) {
  SHARED(ItemBound, of_tile, [kItemTile]);
  if (!plan->packed) return;
  const int64_t end = *passed;
  const int slot = static_cast<int>(threadIdx.x) % kItemTile;
  for (int64_t tile = blockIdx.x; tile < plan->tiles.tiles; tile += gridDim.x) {
    const int64_t position = tile * kItemTile + slot;
    const bool real = position < end;
    const int64_t place = real ? places[position] : 0;
    if (threadIdx.x < kItemTile) {
      of_tile[slot] = real ? all.bounds[place] : ItemBound{};
      bounds[position] = of_tile[slot];
    }
    const auto* from = reinterpret_cast<const uint4*>(all.codes) +
                       place / kItemTile * all.chunks * kItemTile + place % kItemTile;
#pragma unroll 4
    for (int c = static_cast<int>(threadIdx.x) / kItemTile; c < all.chunks;
         c += kPackThreads / kItemTile) {
      codes[(tile * all.chunks + c) * kItemTile + slot] =
          real ? ptx::ld_nc(from + c * kItemTile) : uint4{};
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      const int64_t left = end - tile * kItemTile;
      bound_tile(of_tile, left < kItemTile ? static_cast<int>(left) : kItemTile, &tiles[tile]);
    }
    __syncthreads();
  }
}

int tiles_of(int64_t items) {
  return static_cast<int>(ceil_div<int64_t>(items, kItemTile));
}

}  // namespace

PackedItems::PackedItems(const ItemCodes& all, int64_t most, cudaStream_t stream)
    : all_(all),
      most_(std::min(most, all.slots())),
      groups_(ceil_div(all.num_tiles, kGroupTiles)),
      memory_(tiles_of(most_), all.chunks, stream),
      plan_(1, stream),
      words_(int64_t{groups_} * kPackThreads, stream),
      counts_(groups_, stream),
      places_(most_, stream) {}

void PackedItems::run(const TopKInput& in, const unsigned* passed, const RowPlan& rows,
                      int64_t gathered, int multiprocessors, cudaStream_t stream) {
  const auto start = [&](auto kernel, const char* name, int blocks, unsigned threads,
                         auto&&... arguments) {
    check(launch(kernel,
                 {.grid = static_cast<unsigned>(blocks),
                  .block = threads,
                  .stream = stream,
                  .name = name},
                 arguments...),
          "topk pack");
  };
  start(topk_pack_plan_kernel, "topk_pack_plan", 1, 1, passed, rows, PackLimits{gathered, most_},
        all_, memory_.view(), plan_.data());
  start(topk_pack_mask_kernel, "topk_pack_mask", groups_, kPackThreads, in, all_, plan_.data(),
        words_.data(), counts_.data());
  start(topk_pack_places_kernel, "topk_pack_places", groups_, kPackThreads, plan_.data(),
        words_.data(), counts_.data(), places_.data());
  start(topk_pack_codes_kernel, "topk_pack_codes",
        std::min(memory_.view().num_tiles, 8 * multiprocessors), kPackThreads, all_, plan_.data(),
        passed, places_.data(), memory_.codes(), memory_.bounds(), memory_.tiles());
}

}  // namespace hypertower::cuda
