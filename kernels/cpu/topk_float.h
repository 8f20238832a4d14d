// The first pass in single precision, for machines without int8 products and for items that int8
// bounds too loosely. Portable; packs rows as it goes, so it needs nothing prepared.
//
// Adding D products in floats is off by at most  D u / (1 - D u) * |q| |x|,  u = 2^-24 (Higham,
// Accuracy and Stability of Numerical Algorithms, section 3.1); twice that is taken.
#pragma once

#include <cstdint>

#include "kernels/cpu/topk_tiles.h"
#include "kernels/tensor.h"

namespace hypertower::cpu {

// Copies the rows that `slots` names into `tile`, [dim, 48], and returns the largest norm among
// them, rounded up; infinite when a row is beyond kMaxMagnitude. Empty places become zero.
float pack_floats(MatrixView<const float> items, const Slot* slots, float* tile);

// scores[q * 48 + i] and, in lanes[q], which of them reach threshold[q], for `width` = 8 queries
// that lie [dim, 8]. Returns the queries that have lanes.
uint32_t float_pass(const float* tile, const float* queries, int64_t dim, const float* threshold,
                    float* scores, uint64_t* lanes);

// Relative to |q| |x|.
inline float float_error(int64_t dim) {
  return static_cast<float>(dim + 8) * 0x1p-23F;
}

}  // namespace hypertower::cpu
