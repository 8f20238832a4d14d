// One tile of the softmax loss: kTile x kTile logits of a block of 16 x 16 threads, 4 x 4 each.
// Thread t works on rows 4 * (t / 16) + i and columns 4 * (t % 16) + j of the tile.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/softmax_loss.h"

namespace hypertower::cuda {

inline constexpr int kTile = 64;
inline constexpr int kTileThreads = 256;
inline constexpr int kDepth = 16;          // dimensions in shared memory at a time
inline constexpr int kStride = kTile + 4;  // of shared rows: 16-byte aligned, fewer bank conflicts

__device__ __forceinline__ int tile_row() {
  return static_cast<int>(threadIdx.x) / 16 * 4;
}
__device__ __forceinline__ int tile_column() {
  return static_cast<int>(threadIdx.x) % 16 * 4;
}

// m[row][column .. column + 4), zeros outside the matrix. kVector: rows can be read 16 bytes at a
// time and `column` and m.cols are multiples of 4.
template <bool kVector>
__device__ __forceinline__ float4 load4(const MatrixView<const float>& m, int64_t row,
                                        int64_t column) {
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (row >= m.rows || column >= m.cols) return v;
  const float* p = m.data + row * m.ld + column;
  if constexpr (kVector) return ptx::ld_nc(reinterpret_cast<const float4*>(p));
  v.x = __ldg(p);
  if (column + 1 < m.cols) v.y = __ldg(p + 1);
  if (column + 2 < m.cols) v.z = __ldg(p + 2);
  if (column + 3 < m.cols) v.w = __ldg(p + 3);
  return v;
}

// to[k][r] = m[first + r][depth + k], k < kDepth, r < kTile.
template <bool kVector>
__device__ __forceinline__ void load_transposed(const MatrixView<const float>& m, int64_t first,
                                                int64_t depth, float* to) {
  const int r = static_cast<int>(threadIdx.x) / 4, k = static_cast<int>(threadIdx.x) % 4 * 4;
  const float4 v = load4<kVector>(m, first + r, depth + k);
  to[k * kStride + r] = v.x;
  to[(k + 1) * kStride + r] = v.y;
  to[(k + 2) * kStride + r] = v.z;
  to[(k + 3) * kStride + r] = v.w;
}

// to[r][j] = m[first + r][column + j], r < kTile, j < kTile.
template <bool kVector>
__device__ __forceinline__ void load_rows(const MatrixView<const float>& m, int64_t first,
                                          int64_t column, float* to) {
  for (int r = static_cast<int>(threadIdx.x) / 16; r < kTile; r += kTileThreads / 16) {
    *reinterpret_cast<float4*>(to + r * kStride + tile_column()) =
        load4<kVector>(m, first + r, column + tile_column());
  }
}

// sum[i][j] += left[k][row + i] * right[k][column + j] over k < depth, both in shared memory.
__device__ __forceinline__ void multiply(const float* left, const float* right, int depth,
                                         float (&sum)[4][4]) {
#pragma unroll 8
  for (int k = 0; k < depth; ++k) {
    const float4 a = *reinterpret_cast<const float4*>(left + k * kStride + tile_row());
    const float4 b = *reinterpret_cast<const float4*>(right + k * kStride + tile_column());
    const float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[i][j] = __fmaf_rn(as[i], bs[j], sum[i][j]);
    }
  }
}

// dots[i][j] = <a row, b row> for kTile rows of each from a_first and b_first. `left` and `right`
// are shared memory of kDepth * kStride. Begins with a barrier, so the caller may have just read
// them; what was written to other shared memory before is visible afterwards.
template <bool kVector>
__device__ __forceinline__ void dot_tile(const MatrixView<const float>& a, int64_t a_first,
                                         const MatrixView<const float>& b, int64_t b_first,
                                         float* left, float* right, float (&dots)[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) dots[i][j] = 0.0F;
  }
  for (int64_t depth = 0; depth < a.cols; depth += kDepth) {
    __syncthreads();
    load_transposed<kVector>(a, a_first, depth, left);
    load_transposed<kVector>(b, b_first, depth, right);
    __syncthreads();
    multiply(left, right, kDepth, dots);
  }
}

// What masks and shifts the logits of kTile queries.
struct RowKeys {
  int64_t target[kTile], item[kTile], user[kTile];
  int64_t exclude_begin[kTile], exclude_end[kTile];
  float log_z[kTile], coefficient[kTile];
};

// The same of kTile columns. Columns beyond the last have a logit of -inf.
struct ColumnKeys {
  int64_t item[kTile], user[kTile];
  float logq[kTile];
};

// log_z and grad_loss may be null (forward). A row beyond the last has log_z = inf and coefficient
// 0, hence probabilities of 0.
__device__ __forceinline__ void load_row_keys(const SoftmaxLossInput& in, const float* log_z,
                                              const float* grad_loss, int64_t first,
                                              RowKeys* keys) {
  const int r = static_cast<int>(threadIdx.x);
  if (r >= kTile) return;
  const int64_t row = first + r;
  const bool inside = row < in.queries.rows;
  keys->target[r] = inside ? in.target[row] : -1;
  keys->item[r] = inside && in.column_item != nullptr ? in.column_item[in.target[row]] : 0;
  keys->user[r] = inside && in.column_user != nullptr ? in.row_user[row] : -1;
  const bool excludes = inside && in.row_exclude.offsets != nullptr;
  keys->exclude_begin[r] = excludes ? in.row_exclude.offsets[row] : 0;
  keys->exclude_end[r] = excludes ? in.row_exclude.offsets[row + 1] : 0;
  if (log_z == nullptr) return;
  keys->log_z[r] = inside ? log_z[row] : INFINITY;
  const float weight = inside && in.weight != nullptr ? in.weight[row] : 1.0F;
  keys->coefficient[r] = inside ? grad_loss[row] * weight * in.scale : 0.0F;
}

__device__ __forceinline__ void load_column_keys(const SoftmaxLossInput& in, int64_t first,
                                                 ColumnKeys* keys) {
  const int c = static_cast<int>(threadIdx.x);
  if (c >= kTile) return;
  const int64_t column = first + c;
  const bool inside = column < in.columns.rows;
  keys->item[c] = inside && in.column_item != nullptr ? in.column_item[column] : 0;
  keys->user[c] = inside && in.column_user != nullptr ? in.column_user[column] : -1;
  const float logq = inside && in.logq != nullptr ? in.logq[column] : 0.0F;
  keys->logq[c] = inside ? logq : INFINITY;
}

// Whether sorted values[begin, end) hold `value`.
__device__ __forceinline__ bool contains(const int64_t* values, int64_t begin, int64_t end,
                                         int64_t value) {
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    if (values[middle] == value) return true;
    if (values[middle] < value) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return false;
}

// Whether column c (global number `column`) of the tile counts nothing for row r.
__device__ __forceinline__ bool masked(const SoftmaxLossInput& in, const RowKeys& rows, int r,
                                       const ColumnKeys& columns, int c, int64_t column) {
  if (column == rows.target[r]) return false;
  if (column >= in.columns.rows) return true;
  if (in.column_item != nullptr && columns.item[c] == rows.item[r]) return true;
  if (columns.user[c] >= 0 && columns.user[c] == rows.user[r]) return true;
  return contains(in.row_exclude.values, rows.exclude_begin[r], rows.exclude_end[r],
                  columns.item[c]);
}

}  // namespace hypertower::cuda
