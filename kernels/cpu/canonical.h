// Canonical scores (kernels/topk.h) in the widest vectors of this machine. Eight running sums and
// their fixed tree do not depend on the width of a vector, and fusing multiply and add cannot
// change an exact product: every instruction set gives the same bits.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace hypertower::cpu {

// Rows are scored against at most this many queries at a time.
inline constexpr int kCanonicalQueries = 4;

// Queries as doubles, each padded with zeros to `canonical_stride(dim)` numbers.
inline int64_t canonical_stride(int64_t dim) {
  return (dim + 7) / 8 * 8;
}
void widen_query(const float* query, int64_t dim, double* out);

// scores[i * num_queries + q] of item rows ids[0 .. count) (rows first + i where ids is null) with
// `num_queries` <= kCanonicalQueries widened queries, one after the other.
void canonical_scores(const double* queries, int num_queries, MatrixView<const float> items,
                      const uint32_t* ids, int64_t first, int64_t count, float* scores);

}  // namespace hypertower::cpu
