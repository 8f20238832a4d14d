// One tile of the softmax loss: kTile x kTile numbers of four warps, 16 rows each, in registers as
// the tensor cores leave them. With g = lane / 4 and t = lane % 4, number [block][2 * h + e] of a
// thread is of row 16 * warp + g + 8 * h and column 8 * block + 2 * t + e.
//
// Products are of floats on tensor cores: x = high + low, both of the 11 digits that tf32 has, and
// x * y = high * high + high * low + low * high but for 2^-22 of it (Markidis et al., "NVIDIA
// Tensor Core Programmability, Performance & Precision", 2018).
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/softmax_loss.h"

namespace hypertower::cuda {

inline constexpr int kTile = 64;
inline constexpr int kTileThreads = 128;
inline constexpr int kTileBlocks = kTile / 8;  // of columns
inline constexpr int kDepth = 32;              // dimensions in shared memory at a time
// Of rows in shared memory, in floats. Eight rows of four floats lie in different banks.
inline constexpr int kDepthStride = kDepth + 4;
inline constexpr int kVectorStride = kTile + 4;

using TileSums = float[kTileBlocks][4];

__device__ __forceinline__ int tile_row(int half) {
  return static_cast<int>(threadIdx.x) / 32 * 16 + static_cast<int>(lane_index()) / 4 + 8 * half;
}
__device__ __forceinline__ int tile_column(int block, int e) {
  return 8 * block + static_cast<int>(lane_index()) % 4 * 2 + e;
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

// to[r][j] = m[first + r][column + j], r < kTile, j < kColumns, rows of `to` kColumns + 4 apart.
template <bool kVector, int kColumns>
__device__ __forceinline__ void load_rows(const MatrixView<const float>& m, int64_t first,
                                          int64_t column, float* to) {
  constexpr int kFours = kColumns / 4;
  const int j = static_cast<int>(threadIdx.x) % kFours * 4;
#pragma unroll
  for (int r = static_cast<int>(threadIdx.x) / kFours; r < kTile; r += kTileThreads / kFours) {
    *reinterpret_cast<float4*>(to + r * (kColumns + 4) + j) =
        load4<kVector>(m, first + r, column + j);
  }
}

// A fragment as two terms.
template <int kSize>
struct Split {
  uint32_t high[kSize], low[kSize];

  __device__ __forceinline__ void set(int i, float x) {
    high[i] = ptx::to_tf32(x);
    low[i] = ptx::to_tf32(x - __uint_as_float(high[i]));
  }
};

// The small terms first.
__device__ __forceinline__ void multiply_add(float (&sum)[4], const Split<4>& a,
                                             const Split<2>& b) {
  ptx::mma_m16n8k8_tf32(sum, a.low, b.high, sum);
  ptx::mma_m16n8k8_tf32(sum, a.high, b.low, sum);
  ptx::mma_m16n8k8_tf32(sum, a.high, b.high, sum);
}

// The rows that ldmatrix asks this lane for: of tiles of 8 rows and 4 floats that begin at row
// 8 * (tile % 2) and column 4 * (tile / 2), or the other way round.
template <bool kRowsFirst>
__device__ __forceinline__ const float* lane_row(const float* m, int stride) {
  const int lane = static_cast<int>(lane_index()), tile = lane / 8;
  const int rows = kRowsFirst ? tile % 2 : tile / 2, columns = kRowsFirst ? tile / 2 : tile % 2;
  return m + (8 * rows + lane % 8) * stride + 4 * columns;
}

// dots = <a row, b row> for kTile rows of each from a_first (the rows of the tile) and b_first (its
// columns). `left` and `right` are shared memory of kTile * kDepthStride. Begins with a barrier, so
// the caller may have just read them; what was written to other shared memory before is visible
// afterwards.
template <bool kVector>
__device__ __forceinline__ void dot_tile(const MatrixView<const float>& a, int64_t a_first,
                                         const MatrixView<const float>& b, int64_t b_first,
                                         float* left, float* right, TileSums& dots) {
#pragma unroll
  for (auto& block : dots) block[0] = block[1] = block[2] = block[3] = 0.0F;
  const float* rows =
      lane_row<true>(left + static_cast<int>(threadIdx.x) / 32 * 16 * kDepthStride, kDepthStride);
  const float* columns = lane_row<false>(right, kDepthStride);
  for (int64_t depth = 0; depth < a.cols; depth += kDepth) {
    __syncthreads();
    load_rows<kVector, kDepth>(a, a_first, depth, left);
    load_rows<kVector, kDepth>(b, b_first, depth, right);
    __syncthreads();
#pragma unroll 1
    for (int k = 0; k < kDepth; k += 8) {
      uint32_t words[4];
      Split<4> x;
      ptx::ldmatrix_x4(words, rows + k);
#pragma unroll
      for (int i = 0; i < 4; ++i) x.set(i, __uint_as_float(words[i]));
#pragma unroll
      for (int pair = 0; pair < kTileBlocks; pair += 2) {
        ptx::ldmatrix_x4(words, columns + pair * 8 * kDepthStride + k);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          Split<2> y;
          y.set(0, __uint_as_float(words[2 * n]));
          y.set(1, __uint_as_float(words[2 * n + 1]));
          multiply_add(dots[pair + n], x, y);
        }
      }
    }
  }
}

// sums += tile * vectors, where `vectors` [kTile, kTile] in shared memory has a row, kVectorStride
// apart, for each column of the tile. The columns of a block are taken in the order 0, 2, 4, 6, 1,
// 3, 5, 7, in which this thread has them.
__device__ __forceinline__ void multiply_tile(const TileSums& tile, const float* vectors,
                                              TileSums& sums) {
  const int g = static_cast<int>(lane_index()) / 4, t = static_cast<int>(lane_index()) % 4;
#pragma unroll
  for (int block = 0; block < kTileBlocks; ++block) {
    Split<4> x;
    x.set(0, tile[block][0]);
    x.set(1, tile[block][2]);
    x.set(2, tile[block][1]);
    x.set(3, tile[block][3]);
    const float* row = vectors + (8 * block + 2 * t) * kVectorStride + g;
#pragma unroll
    for (int n = 0; n < kTileBlocks; ++n) {
      Split<2> y;
      y.set(0, row[8 * n]);
      y.set(1, row[kVectorStride + 8 * n]);
      multiply_add(sums[n], x, y);
    }
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
