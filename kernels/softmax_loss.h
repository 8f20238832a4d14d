// Softmax cross entropy of a batch of queries over a list of candidate columns, streamed over the
// columns: the B x C logits are never stored; backward recomputes them tile by tile.
//
//   z[b,c]  = <query_b, column_c> * scale - logq[c]           (logq applied after the temperature)
//   loss[b] = weight[b] * (logsumexp over unmasked c of z[b,c]  -  z[b, target[b]])
//
// The target column always counts, whatever the masks say (its logq is applied as to any column).
// A column c != target[b] is masked for row b when
//   - accidental hit: column_item[c] == column_item[target[b]], or
//   - known positive: column_user is given, column_user[c] >= 0 and column_user[c] == row_user[b]
//     (a positive of the same person from another row), or
//   - row_exclude lists column_item[c] for row b (needs column_item; sorted ascending per row).
// Sources: Yi et al. 2019 (logQ correction), Bengio & Senecal 2003 (sampled softmax).
//
// Logits in float; log-sum-exp in double over fixed column tiles in order: deterministic for any
// number of threads on one kind of machine. A gradient sums over column tiles (d_query) or rows
// (d_column) in a fixed order too. Memory: O(B * D) and one tile per thread, never B x C.
// Thread-safe.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace hypertower {

struct SoftmaxLossInput {
  MatrixView<const float> queries;       // [B, D]
  MatrixView<const float> columns;       // [C, D]
  const int64_t* target = nullptr;       // [B], index of the positive column
  float scale = 1.0F;                    // 1 / temperature, > 0
  const float* logq = nullptr;           // [C] log of the expected count of the column, or null
  const float* weight = nullptr;         // [B] >= 0, or null
  const int64_t* column_item = nullptr;  // [C] item of each column, or null: no accidental-hit mask
  const int64_t* column_user = nullptr;  // [C] user whose positive the column is, -1 none; or null
  const int64_t* row_user = nullptr;     // [B]; needed with column_user
  JaggedView<int64_t> row_exclude;       // items per row, sorted; offsets may be null
};

// loss [B] and log_z [B] (the log-sum-exp, which backward needs) are written.
// Errors: kArgument for shapes, a target outside [0, C) (names the row), scale <= 0, a mask without
// the columns it needs, row_exclude with broken offsets or unsorted items; kNumeric for a loss that
// is not finite (names the first such row). Synchronises the stream on CUDA, to report them.
void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec);

// `grad_loss` [B] is the gradient of each row's loss, log_z what forward gave. REQUIRES: an
// input that forward accepted (on CUDA, where nothing is synchronised here, bad values leave the
// outputs unwritten).
// d_query [B, D], d_column [C, D] and, unless null, d_scale (one number) are overwritten.
void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec);

}  // namespace hypertower
