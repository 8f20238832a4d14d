// Scores of a chunk of items against groups of rows, and the candidates that come out of them.
// Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk.h"
#include "kernels/topk_key.h"

namespace hypertower::cuda {

inline constexpr int kScoreThreads = 128;
inline constexpr int kRowGroup = 4;         // rows that share one read of an item
inline constexpr int kItemsPerBlock = 512;  // 4 items for each thread, one after the other

// Excluded and adjusted items of all rows in one ascending array of (row << 32 | item id); a row's
// part begins at the sum of its two offsets. Equal keys stand in list order.
struct ListedItems {
  const uint64_t* keys;
  const uint32_t* delta_bits;      // of the float; -inf for an excluded item
  const int64_t* exclude_offsets;  // null: none
  const int64_t* adjust_offsets;

  __device__ int64_t begin(int64_t row) const {
    return (exclude_offsets == nullptr ? 0 : exclude_offsets[row]) +
           (adjust_offsets == nullptr ? 0 : adjust_offsets[row]);
  }
  __device__ bool contains(int64_t row, int64_t item) const {
    const uint64_t key = static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(item);
    int64_t low = begin(row);
    int64_t high = begin(row + 1);
    const int64_t end = high;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < end && keys[low] == key;
  }
};

// What is known of each row while the items go by. All in device memory.
struct RowState {
  const double* queries;  // [B, padded_dim], zeros behind D
  int64_t padded_dim;     // D rounded up to 8
  uint64_t* gate;         // [B]: a key below it cannot be in the result
  unsigned* pending;      // [B]: how many candidates the chunk has added
  uint64_t* candidates;   // [B, capacity]
  int64_t capacity;       // items of the largest chunk: a chunk can never overflow it
};

__device__ inline bool allowed(const TopKInput& in, int64_t row, int64_t item) {
  if (in.masks == nullptr) return true;
  const int mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
  if (mask < 0) return true;
  return (in.masks[mask * in.mask_words + item / 64] >> (item % 64) & 1) != 0;
}

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

// Block (g, b): rows [4 g, 4 g + 4) against items first + [512 b, 512 b + 512), a thread per item.
// Neighbouring blocks share their items, which so come from the L2 cache but once. Bound: double
// arithmetic for more than a few rows, else the read of the items.
template <bool kVector>
__global__ void __launch_bounds__(kScoreThreads, 3)  // the 64 sums of a thread stay in registers
    topk_score_kernel(TopKInput in, RowState rows, ListedItems listed, int64_t first, int64_t end) {
  const int64_t batch = in.queries.rows;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x) * kRowGroup;
  const double* queries[kRowGroup];
  uint64_t gate[kRowGroup];
#pragma unroll
  for (int q = 0; q < kRowGroup; ++q) {
    const int64_t row = row_begin + q < batch ? row_begin + q : batch - 1;
    queries[q] = rows.queries + row * rows.padded_dim;
    gate[q] = row_begin + q < batch ? rows.gate[row] : ~uint64_t{0};
  }
  const int64_t block_begin = first + static_cast<int64_t>(blockIdx.y) * kItemsPerBlock;
  const int64_t block_end = block_begin + kItemsPerBlock < end ? block_begin + kItemsPerBlock : end;
  const unsigned lane_mask_below = (1U << lane_index()) - 1;
  for (int64_t begin = block_begin; begin < block_end; begin += kScoreThreads) {
    const int64_t item = begin + threadIdx.x;
    bool wanted[kRowGroup];
    bool any = false;
#pragma unroll
    for (int q = 0; q < kRowGroup; ++q) {
      wanted[q] = item < block_end && row_begin + q < batch && allowed(in, row_begin + q, item);
      any = any || wanted[q];
    }
    float scores[kRowGroup] = {};
    if (any) {
      canonical_scores<kVector>(in.items.data + item * in.items.ld, in.items.cols, queries, scores);
    }
#pragma unroll
    for (int q = 0; q < kRowGroup; ++q) {
      const int64_t row = row_begin + q;
      const uint64_t key = topk_key::make(scores[q], item);
      bool hit = wanted[q] && key >= gate[q];
      if (hit && listed.keys != nullptr) hit = !listed.contains(row, item);
      const unsigned hits = __ballot_sync(kFullMask, hit);
      if (hits == 0) continue;
      const int leader = __ffs(static_cast<int>(hits)) - 1;
      unsigned place = 0;
      if (lane_index() == static_cast<unsigned>(leader)) {
        place = atomicAdd(&rows.pending[row], static_cast<unsigned>(__popc(hits)));
      }
      place = __shfl_sync(kFullMask, place, leader) + __popc(hits & lane_mask_below);
      if (hit) rows.candidates[row * rows.capacity + place] = key;
    }
  }
}

// Adds the adjusted items of each row as candidates: entries [skip, skip + capacity) of its list, a
// thread per entry; the first of equal entries speaks for all. Grid (rows, blocks of entries).
__global__ void __launch_bounds__(kScoreThreads)
    topk_adjusted_kernel(TopKInput in, RowState rows, ListedItems listed, int64_t skip) {
  const int64_t row = blockIdx.x;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * kScoreThreads + threadIdx.x;
  const int64_t begin = listed.begin(row);
  const int64_t end = listed.begin(row + 1);
  const int64_t entry = begin + skip + at;
  if (at >= rows.capacity || entry >= end) return;
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
  const unsigned place = atomicAdd(&rows.pending[row], 1U);
  rows.candidates[row * rows.capacity + place] = candidate;
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
