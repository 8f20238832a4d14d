// Argument checks of topk and score_pairs, with the sentences that the caller reads; the CPU and
// the CUDA implementation share them, so both say the same. All throw Error(kArgument).
#pragma once

#include <cstdint>

#include "kernels/topk.h"

namespace hypertower::topk_check {

// What the host can see on either device: shapes, null pointers, k.
void shapes(const TopKInput& in, const TopKOutput& out);
void pair_shapes(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out);

// Of an index: its number of items, and its first row that is not finite (-1: none).
void num_items(int64_t count);
void finite_items(int64_t bad_row);

// The offsets of both lists, for all rows; then the values of one row: its mask, ids and deltas.
// All pointers but those of the matrices must be host memory.
void offsets(const TopKInput& in);
void row_values(const TopKInput& in, int64_t row);

// One row of ids of score_pairs, in host memory.
void pair_ids(int64_t row, const int64_t* ids, int64_t count, int64_t num_items);

}  // namespace hypertower::topk_check
