// The plain way: the canonical score of every item, and the best k of those. What a row falls back
// to when the int8 scan cannot help it, and what a call takes that would not repay the quantising
// of the items. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_canonical.cuh"
#include "kernels/cuda/topk_merge.cuh"
#include "kernels/cuda/topk_select.cuh"

namespace hypertower::cuda {

inline constexpr int kRowGroup = 4;  // rows that share one read of an item

// A row's candidates as `parts` segments of `size` keys, one for each range of the items.
struct Segments {
  int64_t* counts;  // [B, parts]
  int parts;
  int64_t size;
};

// A segment takes what a step adds to k keys that are kept.
inline int64_t segment_size(int64_t keep) {
  return 2 * keep + 2 * kSelectThreads;
}

// Blocks share groups of rows and, for each group, the ranges of items. A thread scores one item
// for the rows of the group; what reaches a row's gate goes to its segment, which is cut back to
// the best `keep` when a further step could overflow it. Bound: double arithmetic for more than a
// few rows, else the read of the items.
template <bool kVector>
__global__ void __launch_bounds__(kSelectThreads, 1)
    topk_reference_kernel(TopKInput in, ListedItems listed, Rows rows, RowList list,
                          Segments segments, int64_t keep) {
  SHARED(int64_t, row_of, [kRowGroup]);
  SHARED(uint64_t, gates, [kRowGroup]);
  SHARED(unsigned, counts, [kRowGroup]);
  const int size = static_cast<int>(*list.size);
  const int groups = ceil_div(size, kRowGroup);
  const int64_t items_per_part =
      ceil_div(ceil_div(in.items.rows, int64_t{segments.parts}), int64_t{kSelectThreads}) *
      kSelectThreads;
  for (int unit = static_cast<int>(blockIdx.x); unit < groups * segments.parts;
       unit += static_cast<int>(gridDim.x)) {
    const int64_t part = unit / groups;
    const int first = unit % groups * kRowGroup;
    const int num_rows = min(kRowGroup, size - first);
    if (threadIdx.x < kRowGroup) {
      row_of[threadIdx.x] = list.rows[min(first + static_cast<int>(threadIdx.x), size - 1)];
      gates[threadIdx.x] = 0;
      counts[threadIdx.x] = 0;
    }
    __syncthreads();
    const double* queries[kRowGroup];
#pragma unroll
    for (int q = 0; q < kRowGroup; ++q) queries[q] = rows.queries + row_of[q] * rows.padded_dim;
    const int64_t end = min(in.items.rows, (part + 1) * items_per_part);
    for (int64_t begin = part * items_per_part; begin < end; begin += kSelectThreads) {
      const int64_t item = begin + threadIdx.x;
      bool wanted[kRowGroup];
      bool any = false;
#pragma unroll
      for (int q = 0; q < kRowGroup; ++q) {
        wanted[q] = item < end && q < num_rows && allowed(in, row_of[q], item);
        any = any || wanted[q];
      }
      if (any) {
        float scores[kRowGroup];
        canonical_scores<kVector>(in.items.data + item * in.items.ld, in.items.cols, queries,
                                  scores);
#pragma unroll
        for (int q = 0; q < kRowGroup; ++q) {
          const uint64_t key = topk_key::make(scores[q], item);
          if (!wanted[q] || key < gates[q] || listed.contains(row_of[q], item)) continue;
          rows.candidates[row_of[q] * rows.stride + part * segments.size +
                          atomicAdd(&counts[q], 1U)] = key;
        }
      }
      __syncthreads();
      for (int q = 0; q < num_rows; ++q) {
        const int64_t count = counts[q];
        if (count + kSelectThreads <= segments.size) continue;
        const uint64_t gate = keep_best(
            rows.candidates + row_of[q] * rows.stride + part * segments.size, count, keep);
        if (threadIdx.x == 0) {
          gates[q] = gate;
          counts[q] = static_cast<unsigned>(keep);
        }
      }
      __syncthreads();
    }
    if (threadIdx.x < static_cast<unsigned>(num_rows)) {
      segments.counts[row_of[threadIdx.x] * segments.parts + part] = counts[threadIdx.x];
    }
    __syncthreads();
  }
}

// Block per row of the list: the best of its segments.
__global__ void __launch_bounds__(kSelectThreads)
    topk_reference_merge_kernel(Rows rows, RowList list, Segments segments, BestKeys best,
                                int64_t keep, PathCounts* paths) {
  if (blockIdx.x >= *list.size) return;
  const int64_t row = list.rows[blockIdx.x];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  int64_t count = segments.counts[row * segments.parts];
  for (int part = 1; part < segments.parts; ++part) {
    count = compact(keys, count, part * segments.size, segments.counts[row * segments.parts + part],
                    [](uint64_t) { return true; });
  }
  const uint64_t gate =
      copy_best({keys, count, nullptr, count}, keep, best.keys + row * best.stride);
  if (threadIdx.x != 0) return;
  best.count[row] = min(count, keep);
  rows.gate[row] = gate;
  atomicAdd(&paths->reference, 1U);
}

}  // namespace hypertower::cuda
