// What a top-K call keeps of its rows and items on the device. Plain views; topk.cu owns the
// memory.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_bound.cuh"
#include "kernels/cuda/topk_plan.h"
#include "kernels/topk.h"

namespace hypertower::cuda {

// Items as int8, ordered by falling scale, so that the items of a tile have much the same scale and
// every stride of tiles is a sample of all magnitudes.
struct ItemCodes {
  const int8_t* codes;      // [tiles][chunks][kItemTile][kCodeChunk], zeros behind the items
  const ItemBound* bounds;  // [tiles * kItemTile]
  const TileBound* tiles;   // [num_tiles]
  int num_tiles;
  int chunks;  // of a row, even: a multiple of 32 columns

  int64_t slots() const { return int64_t{num_tiles} * kItemTile; }
};

// An element per row of the call.
struct Rows {
  const double* queries;  // [B, padded_dim], zeros behind D
  int64_t padded_dim;     // D rounded up to 8
  int8_t* codes;          // [B][chunks][kCodeChunk]
  RowBound* bounds;
  float* threshold;      // items whose bound is below it are passed over; -inf at first
  float* looser;         // the threshold before it was last raised
  unsigned* hits;        // allowed items that reached the threshold, stored or not
  uint64_t* gate;        // a key below it cannot be in the result
  uint64_t* candidates;  // [B, stride], keys of upper bounds; later of canonical scores
  int64_t stride;
  int64_t capacity;  // candidates that a row may store, <= stride
};

// Rows that take part in a step, written by the step before.
struct RowList {
  int* rows;       // [B]
  unsigned* size;  // [1]

  // For all threads of a warp alike: known to be the same in all lanes.
  __device__ int count() const { return __shfl_sync(kFullMask, static_cast<int>(*size), 0); }
  __device__ void add(int64_t row) const { rows[atomicAdd(size, 1U)] = static_cast<int>(row); }
};

// Which ways rows took, counted on the device.
struct PathCounts {
  unsigned gathered;   // scored by the bits of their mask
  unsigned packed;     // found among the items that the mask of all passes
  unsigned too_many;   // more hits than a row may store
  unsigned too_few;    // the threshold was above the k-th score
  unsigned reference;  // scored as a whole
};

// Excluded and adjusted items of all rows in one ascending array of (row << 32 | item id); a row's
// part begins at the sum of its two offsets. Equal keys stand in list order.
struct ListedItems {
  const uint64_t* keys;
  const uint32_t* delta_bits;      // of the float; -inf for an excluded item
  const int64_t* exclude_offsets;  // null: none
  const int64_t* adjust_offsets;
  int64_t first_row;  // of the call, what the other views count from

  __device__ int64_t begin(int64_t row) const {
    row += first_row;
    return (exclude_offsets == nullptr ? 0 : exclude_offsets[row]) +
           (adjust_offsets == nullptr ? 0 : adjust_offsets[row]);
  }
  __device__ uint64_t key(int64_t row, int64_t item) const {
    return static_cast<uint64_t>(first_row + row) << 32 | static_cast<uint64_t>(item);
  }
  __device__ bool contains(int64_t row, int64_t item) const {
    if (keys == nullptr) return false;
    const uint64_t wanted = key(row, item);
    int64_t low = begin(row);
    int64_t high = begin(row + 1);
    const int64_t end = high;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < wanted) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < end && keys[low] == wanted;
  }
};

// What the scans look at. Lies on the device, which decides (topk_pack.h).
struct ScanPlan {
  ItemCodes items;
  TilePlan tiles;
  bool packed;  // not all items: those that the mask of all rows passes
};

// All that a step over the items needs.
struct Scan {
  TopKInput in;
  ListedItems listed;
  Rows rows;
  RowList list;
  const ScanPlan* plan;
  TileStep step;
  int chunks;  // of an item's codes

  __device__ TileSet tiles() const { return plan->tiles.tiles_of(step); }
};

__device__ inline bool allowed(const TopKInput& in, int64_t row, int64_t item) {
  if (in.masks == nullptr) return true;
  const int mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
  if (mask < 0) return true;
  return (in.masks[mask * in.mask_words + item / 64] >> (item % 64) & 1) != 0;
}

__device__ inline void add_candidate(const Rows& rows, int64_t row, uint64_t key) {
  const unsigned place = atomicAdd(&rows.hits[row], 1U);
  if (place < rows.capacity) rows.candidates[row * rows.stride + place] = key;
}

}  // namespace hypertower::cuda
