// Rows whose mask passes few items: those are found by their bits and scored at once, and become
// candidates as they are, since a canonical score is its own upper bound. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_canonical.cuh"
#include "kernels/cuda/topk_queue.cuh"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

inline constexpr int kGatherThreads = 128;

// The items queue[0, count) become candidates of the row; the warp scores four at a time.
__device__ __forceinline__ void score_waiting(const TopKInput& in, const ListedItems& listed,
                                              const Rows& rows, int64_t row, const uint32_t* queue,
                                              int count) {
  __syncwarp();
  const float* query = in.queries.data + row * in.queries.ld;
  for (int i = 0; i < count; i += 4) {
    const int at = i + static_cast<int>(lane_index()) / 8;
    const uint32_t item = queue[min(at, count - 1)];
    const float score =
        canonical_score_by_8(query, in.items.data + item * in.items.ld, in.items.cols);
    if (at < count && lane_index() % 8 == 0 && !listed.contains(row, item)) {
      add_candidate(rows, row, topk_key::make(score, item));
    }
  }
  __syncwarp();
}

// A warp looks at 32 words of the mask at once. Blocks share the rows and, for each, the words.
__global__ void __launch_bounds__(kGatherThreads, 4)
    topk_gather_kernel(const __grid_constant__ TopKInput in,
                       const __grid_constant__ ListedItems listed,
                       const __grid_constant__ Rows rows, RowList list) {
  SHARED(uint32_t, queues, [kGatherThreads / 32][64]);
  uint32_t* const queue = queues[threadIdx.x / 32];
  const int lane = static_cast<int>(lane_index());
  const int warp = __shfl_sync(kFullMask, static_cast<int>(threadIdx.x) / 32, 0);
  const BlockShare share(list.count());
  const int64_t words = ceil_div<int64_t>(in.items.rows, 64);
  for (int unit = share.first(); unit < share.units(); unit += share.step()) {
    const int64_t row = list.rows[share.group(unit)];
    const int mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
    int waiting = 0;
    const int64_t step = int64_t{share.splits} * kGatherThreads;
    for (int64_t first = share.split(unit) * kGatherThreads + warp * 32; first < words;
         first += step) {
      const int64_t w = first + lane;
      uint64_t word = w < words ? in.masks[mask * in.mask_words + w] : 0;
      if (w == words - 1 && in.items.rows % 64 != 0) {
        word &= (uint64_t{1} << in.items.rows % 64) - 1;
      }
      for (;;) {
        const unsigned some = __ballot_sync(kFullMask, word != 0);
        if (some == 0) break;
        if (word != 0) {
          const int place = waiting + __popc(some & ((1U << lane) - 1));
          queue[place] = static_cast<uint32_t>(64 * w + __ffsll(static_cast<long long>(word)) - 1);
          word &= word - 1;
        }
        waiting += __popc(some);
        if (waiting >= 32) {
          waiting -= 32;
          score_waiting(in, listed, rows, row, queue + waiting, 32);
        }
      }
    }
    if (waiting > 0) score_waiting(in, listed, rows, row, queue, waiting);
  }
}

}  // namespace hypertower::cuda
