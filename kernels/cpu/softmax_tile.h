// The arithmetic of one tile of logits: kTileRows queries against some columns, the queries in the
// lanes of SIMD registers, so that nothing is ever summed across lanes.
// All matrices are dense; pointers are aligned to 64 bytes and row strides are multiples of 16.
#pragma once

#include <cstdint>

namespace hypertower::cpu {

inline constexpr int64_t kTileRows = 64;

struct SoftmaxTileKernels {
  // z[c][r] = <column c, query r> * scale - logq[c]. columns [count][ld], query_t [dim][kTileRows],
  // logq [count] or null, z [count][kTileRows].
  void (*logits)(const float* columns, int64_t count, int64_t ld, const float* query_t, int64_t dim,
                 float scale, const float* logq, float* z);
  // max[r] <- max(max[r], z[.][r]); sum[r] = sum over c of exp(z[c][r] - max[r]), where entries of
  // -inf count nothing and a NaN gives NaN.
  void (*exp_sum)(const float* z, int64_t count, float* max, float* sum);
  // z[c][r] <- coefficient[r] * exp(z[c][r] - log_z[r]).
  void (*probabilities)(float* z, int64_t count, const float* log_z, const float* coefficient);
  // d_query[r][j] += sum over c of p[c][r] * columns[c][j], j < ld.
  void (*add_d_query)(const float* p, int64_t count, const float* columns, int64_t ld,
                      float* d_query);
  // d_column[c][j] += sum over r < rows of p[c][r] * queries[r][j], j < ld.
  void (*add_d_column)(const float* p, int64_t count, const float* queries, int64_t rows,
                       int64_t ld, float* d_column);
};

// For the instruction set of this machine.
SoftmaxTileKernels softmax_tile_kernels();

}  // namespace hypertower::cpu
