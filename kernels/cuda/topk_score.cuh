// The scores that need no selection: those of adjusted items and of given pairs. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_canonical.cuh"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

inline constexpr int kScoreThreads = 128;

// Adds the adjusted items of each row as candidates: entries [skip, skip + stride) of its list, a
// thread per entry; the first of equal entries speaks for all. Grid (rows, blocks of entries).
__global__ void __launch_bounds__(kScoreThreads)
    topk_adjusted_kernel(TopKInput in, Rows rows, ListedItems listed, int64_t skip) {
  const int64_t row = blockIdx.x;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * kScoreThreads + threadIdx.x;
  const int64_t begin = listed.begin(row);
  const int64_t end = listed.begin(row + 1);
  const int64_t entry = begin + skip + at;
  if (at >= rows.stride || entry >= end) return;
  const uint64_t key = listed.keys[entry];
  if (entry > begin && listed.keys[entry - 1] == key) return;
  double delta = 0.0;
  for (int64_t e = entry; e < end && listed.keys[e] == key; ++e) {
    delta += __uint_as_float(listed.delta_bits[e]);
  }
  const int64_t item = static_cast<uint32_t>(key);
  if (isinf(delta) || !allowed(in, row, item)) return;
  const double* const query[1] = {rows.queries + row * rows.padded_dim};
  float score[1];
  canonical_scores<false>(in.items.data + item * in.items.ld, in.items.cols, query, score);
  const uint64_t candidate = topk_key::make(adjusted_score(score[0], delta), item);
  if (candidate < rows.gate[row]) return;
  rows.candidates[row * rows.stride + atomicAdd(&rows.hits[row], 1U)] = candidate;
}

// Thread per pair; an id outside the items sets *bad, unless it is -1.
__global__ void __launch_bounds__(kScoreThreads)
    score_pairs_kernel(MatrixView<const float> queries, MatrixView<const float> items,
                       MatrixView<const int64_t> ids, MatrixView<float> out, unsigned* bad) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kScoreThreads + threadIdx.x;
  if (at >= ids.rows * ids.cols) return;
  const int64_t r = at / ids.cols;
  const int64_t c = at % ids.cols;
  const int64_t id = ids.data[r * ids.ld + c];
  float score = -INFINITY;
  if (id >= 0 && id < items.rows) {
    const float* a = queries.data + r * queries.ld;
    const float* b = items.data + id * items.ld;
    double lane[8] = {};
    for (int64_t j = 0; j < items.cols; j += 8) {
#pragma unroll
      for (int l = 0; l < 8; ++l) {
        if (j + l < items.cols) lane[l] += static_cast<double>(a[j + l]) * b[j + l];
      }
    }
    score = canonical_total(lane);
  } else if (id != -1) {
    atomicOr(bad, 1U);
  }
  out.data[r * out.ld + c] = score;
}

}  // namespace hypertower::cuda
