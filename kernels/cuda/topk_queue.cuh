// Hits of the scans: dot products of codes that reach their row's integer threshold. A warp queues
// them in shared memory and looks at 32 at once, so that the rare work (the exact bound, mask,
// lists, the place among the row's candidates) keeps all lanes busy and the scan waits for it once.
// Part of topk_scan_*.cuh.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

// How the blocks of a grid share groups of rows and, for each group, the tiles.
struct BlockShare {
  int groups, splits;

  __device__ explicit BlockShare(int num_groups)
      : groups(num_groups),
        splits(groups == 0 || static_cast<int>(gridDim.x) < groups
                   ? 1
                   : static_cast<int>(gridDim.x) / groups) {}
  // A block takes units first, first + step, ...
  __device__ int first() const { return static_cast<int>(blockIdx.x); }
  __device__ int step() const { return static_cast<int>(gridDim.x); }
  __device__ int units() const { return groups * splits; }
  __device__ int group(int unit) const { return unit % groups; }
  __device__ int split(int unit) const { return unit / groups; }
};

struct Hit {
  uint32_t position;  // of the item, in the order of its codes
  int dot_and_row;    // dot * 32 + row among the warp's rows, at most 32
};

inline constexpr int kHitQueue = 64;  // 31 that wait and 32 of a push, rounded up

// One per warp. All lanes call every function together.
class HitQueue {
 public:
  // `queue` is shared memory of kHitQueue; row r of the warp is rows[r] of the call.
  __device__ HitQueue(const Scan& scan, Hit* queue, const int* rows)
      : scan_(scan), queue_(queue), rows_(rows) {}

  __device__ __forceinline__ void push(bool hit, uint32_t position, int dot, int row) {
    const unsigned hits = __ballot_sync(kFullMask, hit);
    if (hit) {
      const int place = size_ + __popc(hits & ((1U << lane_index()) - 1));
      queue_[place] = {position, dot * 32 + row};
    }
    size_ += __popc(hits);
    if (size_ >= 32) take(32);
  }

  // The hits that still wait. Call before the rows change and at the end.
  __device__ __forceinline__ void drain() {
    if (size_ > 0) take(size_);
  }

 private:
  __device__ __forceinline__ void take(int count) {
    __syncwarp();
    size_ -= count;
    const int lane = static_cast<int>(lane_index());
    if (lane < count) judge(queue_[size_ + lane]);
    __syncwarp();
  }

  __device__ __forceinline__ void judge(const Hit& hit) {
    const int64_t row = rows_[hit.dot_and_row & 31];
    const ItemBound item = scan_.plan->items.bounds[hit.position];
    if (item.scale == 0.0F) return;
    const float bound = upper_bound(scan_.rows.bounds[row], item, hit.dot_and_row >> 5);
    if (bound < scan_.rows.threshold[row]) return;
    if (!allowed(scan_.in, row, item.id) || scan_.listed.contains(row, item.id)) return;
    add_candidate(scan_.rows, row, topk_key::make(bound, item.id));
  }

  const Scan& scan_;
  Hit* queue_;
  const int* rows_;
  int size_ = 0;
};

// values[kBegin + index] without an address, so that the array stays in registers. index < kSize, a
// power of two.
template <int kSize, int kBegin = 0, int kAll>
__device__ __forceinline__ int pick(const int (&values)[kAll], int index) {
  if constexpr (kSize == 1) {
    return values[kBegin];
  } else {
    constexpr int kHalf = kSize / 2;
    const int low = pick<kHalf, kBegin>(values, index);
    const int high = pick<kHalf, kBegin + kHalf>(values, index);
    return (index & kHalf) != 0 ? high : low;
  }
}

// The dot products of 16 rows and 8 * kBlocks items as the tensor cores leave them: a lane holds
// two rows, lane / 4 and that + 8, and columns 8 j + lane % 4 * 2 + {0, 1}; dots[4 j + i] is column
// i % 2 of row i / 2. Almost always all of it is below the thresholds; that costs a maximum per
// product and one comparison per row. `position` is that of the lane's first item.
template <int kBlocks>
__device__ __forceinline__ void push_hits(const int (&dots)[4 * kBlocks], int least_low,
                                          int least_high, uint32_t position, int first_row,
                                          HitQueue* queue) {
  int low = INT_MIN;
  int high = INT_MIN;
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    low = max(low, max(dots[4 * j], dots[4 * j + 1]));
    high = max(high, max(dots[4 * j + 2], dots[4 * j + 3]));
  }
  bool any = low >= least_low || high >= least_high;
  if (!__any_sync(kFullMask, any)) return;
  uint64_t hits = 0;
#pragma unroll
  for (int i = 0; i < 4 * kBlocks; ++i) {
    const bool hit = dots[i] >= (i % 4 < 2 ? least_low : least_high);
    hits |= static_cast<uint64_t>(hit) << i;
  }
  const int row = first_row + static_cast<int>(lane_index()) / 4;
  while (__any_sync(kFullMask, any)) {
    const int at = any ? __ffsll(static_cast<long long>(hits)) - 1 : 0;
    queue->push(any, position + static_cast<uint32_t>(at / 4 * 8 + at % 2),
                pick<4 * kBlocks>(dots, at), row + at % 4 / 2 * 8);
    hits &= hits - 1;
    any = hits != 0;
  }
}

}  // namespace hypertower::cuda
