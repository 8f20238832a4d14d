// What happens to the rows before the items: checks, codes of the queries, and which way each row
// takes. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_quantize.cuh"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

inline constexpr int kPrepareThreads = 128;  // a warp per row

// The ways a row can take. A list's `rows` may be null: then nobody takes that way.
struct Ways {
  RowList scan;                     // int8 scan, then candidates
  RowList gather;                   // few items pass its mask: score those
  RowList reference;                // score everything
  const unsigned* allowed_by_mask;  // [M], null: no masks
  unsigned gather_limit;            // of items
  const ScanPlan* plan;
  PathCounts* paths;
};

// Adds to counts[m] the items that mask m passes. Grid (M, parts of the words).
__global__ void __launch_bounds__(kPrepareThreads)
    topk_mask_count_kernel(TopKInput in, unsigned* counts) {
  const int64_t words = ceil_div<int64_t>(in.items.rows, 64);
  const uint64_t* mask = in.masks + blockIdx.x * in.mask_words;
  unsigned count = 0;
  for (int64_t w = static_cast<int64_t>(blockIdx.y) * kPrepareThreads + threadIdx.x; w < words;
       w += static_cast<int64_t>(gridDim.y) * kPrepareThreads) {
    uint64_t word = mask[w];
    if (w == words - 1 && in.items.rows % 64 != 0) word &= (uint64_t{1} << in.items.rows % 64) - 1;
    count += static_cast<unsigned>(__popcll(word));
  }
  count = warp_reduce_sum(count);
  if (lane_index() == 0) atomicAdd(&counts[blockIdx.x], count);
}

// A warp per row. chunks == 0: no codes are wanted.
__global__ void __launch_bounds__(kPrepareThreads)
    topk_prepare_kernel(TopKInput in, Rows rows, int chunks, Ways ways, double* queries,
                        int64_t* kept, RowStatus* status) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kPrepareThreads / 32) + threadIdx.x / 32;
  if (row >= in.queries.rows) return;
  const int lane = static_cast<int>(lane_index());
  const float* query = in.queries.data + row * in.queries.ld;
  const int64_t dim = in.queries.cols;
  bool finite = true;
  for (int64_t j = lane; j < rows.padded_dim; j += 32) {
    const float x = j < dim ? query[j] : 0.0F;
    finite = finite && isfinite(x);
    queries[row * rows.padded_dim + j] = x;
  }
  finite = __all_sync(kFullMask, finite) != 0;
  if (finite && chunks != 0) {
    const float scale = code_scale<32, false>(query, dim, lane);
    const auto store = [&](int c, uint4 sixteen) {
      reinterpret_cast<uint4*>(rows.codes)[row * chunks + c] = sixteen;
    };
    const CodeNorms norm = quantize<32, false>(query, dim, chunks, lane, scale, store);
    if (lane == 0) rows.bounds[row] = {scale, norm.vector, norm.residual};
  }
  if (lane != 0) return;
  rows.threshold[row] = -INFINITY;
  rows.looser[row] = -INFINITY;
  rows.hits[row] = 0;
  rows.gate[row] = finite ? 0 : ~uint64_t{0};
  kept[row] = 0;
  status[row] = finite ? RowStatus::kOk : RowStatus::kNonFiniteQuery;
  if (!finite) return;
  if (ways.allowed_by_mask != nullptr) {
    const int mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
    if (mask >= 0 && ways.allowed_by_mask[mask] <= ways.gather_limit) {
      atomicAdd(&ways.paths->gathered, 1U);
      return ways.gather.add(row);
    }
  }
  if (chunks != 0 && ways.plan->packed) atomicAdd(&ways.paths->packed, 1U);
  (chunks != 0 ? ways.scan : ways.reference).add(row);
}

}  // namespace hypertower::cuda
