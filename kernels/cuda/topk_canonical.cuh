// Canonical scores on the device (kernels/topk.h): by a thread for several rows at once, by eight
// lanes for a single pair.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/topk_key.h"

namespace hypertower::cuda {

// Columns [j, j + 8) of an item, zeros behind D. kVector: rows are 16-byte aligned.
template <bool kVector>
__device__ __forceinline__ void load_columns(const float* item, int64_t j, int64_t dim,
                                             float (&x)[8]) {
  if (j + 8 <= dim) {
    if constexpr (kVector) {
      const float4 low = __ldg(reinterpret_cast<const float4*>(item + j));
      const float4 high = __ldg(reinterpret_cast<const float4*>(item + j + 4));
      x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
      x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
    } else {
#pragma unroll
      for (int l = 0; l < 8; ++l) x[l] = item[j + l];
    }
  } else {
#pragma unroll
    for (int l = 0; l < 8; ++l) x[l] = j + l < dim ? item[j + l] : 0.0F;
  }
}

// The canonical scores of one item with kRows rows of queries.
template <bool kVector, int kRows>
__device__ __forceinline__ void canonical_scores(const float* item, int64_t dim,
                                                 const double* const (&queries)[kRows],
                                                 float (&scores)[kRows]) {
  double lane[kRows][8] = {};
  for (int64_t j = 0; j < dim; j += 8) {
    float x[8];
    load_columns<kVector>(item, j, dim, x);
#pragma unroll
    for (int q = 0; q < kRows; ++q) {
#pragma unroll
      for (int l = 0; l < 8; l += 2) {
        const double2 y = *reinterpret_cast<const double2*>(queries[q] + j + l);
        lane[q][l] += static_cast<double>(x[l]) * y.x;  // exact product: fusing changes no bit
        lane[q][l + 1] += static_cast<double>(x[l + 1]) * y.y;
      }
    }
  }
#pragma unroll
  for (int q = 0; q < kRows; ++q) scores[q] = canonical_total(lane[q]);
}

// The canonical score of one pair by eight neighbouring lanes, each of which adds up one of the
// eight sums; all eight get it. All lanes of the warp must call.
__device__ __forceinline__ float canonical_score_by_8(const float* query, const float* item,
                                                      int64_t dim) {
  double sum = 0.0;
#pragma unroll 8
  for (int64_t j = threadIdx.x % 8; j < dim; j += 8) {
    sum += static_cast<double>(query[j]) * static_cast<double>(__ldg(item + j));
  }
  // The tree of canonical_total: (0 + 4), then + (2 + 6), then + the odd ones.
  sum += __shfl_xor_sync(kFullMask, sum, 4);
  sum += __shfl_xor_sync(kFullMask, sum, 2);
  sum += __shfl_xor_sync(kFullMask, sum, 1);
  return static_cast<float>(sum) + 0.0F;
}

}  // namespace hypertower::cuda
