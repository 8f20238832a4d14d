// The memory of item codes, and the bound of a tile. Used by topk_items.cu and topk_pack.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

class CodeMemory {
 public:
  CodeMemory(int num_tiles, int chunks, cudaStream_t stream)
      : num_tiles_(num_tiles),
        chunks_(chunks),
        codes_(int64_t{num_tiles} * chunks * kItemTile, stream),
        bounds_(int64_t{num_tiles} * kItemTile, stream),
        tiles_(num_tiles, stream) {}

  uint4* codes() const { return codes_.data(); }
  ItemBound* bounds() const { return bounds_.data(); }
  TileBound* tiles() const { return tiles_.data(); }
  ItemCodes view() const {
    return {reinterpret_cast<const int8_t*>(codes()), bounds(), tiles(), num_tiles_, chunks_};
  }
  int64_t bytes() const {
    return view().slots() * (int64_t{chunks_} * kCodeChunk + int64_t{sizeof(ItemBound)}) +
           num_tiles_ * int64_t{sizeof(TileBound)};
  }

 private:
  int num_tiles_, chunks_;
  Scratch<uint4> codes_;
  Scratch<ItemBound> bounds_;
  Scratch<TileBound> tiles_;
};

// By one warp, of the `count` >= 1 items that a tile begins with; their scales fall.
__device__ inline void bound_tile(const ItemBound* items, int count, TileBound* out) {
  const int lane = static_cast<int>(lane_index());
  float residual = 0.0F;
  float norm = 0.0F;
  for (int slot = lane; slot < count; slot += 32) {
    residual = fmaxf(residual, items[slot].residual);
    norm = fmaxf(norm, items[slot].norm);
  }
  residual = warp_reduce_max(residual);
  norm = warp_reduce_max(norm);
  if (lane == 0) *out = {1.0F / items[0].scale, 1.0F / items[count - 1].scale, residual, norm};
}

}  // namespace hypertower::cuda
