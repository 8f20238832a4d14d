// Why an int8 first pass can be exact. A vector x becomes codes c in [-127, 127] and a scale s, so
// that x = s c + e. For a query q = s_q c_q + e_q, the inequality of Cauchy and Schwarz gives
//   |<q, x> - s_q s <c_q, c>|  <=  |q| |e| + |e_q| |s c|,
// and the integer <c_q, c> is exact. So an item's score is at most `upper_bound`, always; an item
// whose bound is below a score that k items reach is not in the result, and every other item is
// scored canonically. Norms are kept in units of the scale, where they are small numbers whatever
// the magnitude of the vectors, and rounded up.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/topk_key.h"

#include <cfloat>
#include <climits>

namespace hypertower::cuda {

// Items of a tile, which lie together in memory and share a TileBound.
inline constexpr int kItemTile = 128;
// Columns of a code chunk: 16 bytes, one load.
inline constexpr int kCodeChunk = 16;
// Up to it a dot product of codes fits into 27 bits, which Hit (topk_queue.cuh) has for it.
inline constexpr int64_t kMaxCodeDim = 4096;

struct alignas(16) ItemBound {
  float scale;     // 0: a place behind the last item
  float residual;  // |x - s c| / s, with room for the rounding of canonical scores and of this file
  float norm;      // |s c| / s
  uint32_t id;     // of the item
};

// Over the items of a tile.
struct alignas(16) TileBound {
  float least_inverse, most_inverse;  // of the scales
  float residual, norm;               // the largest
};

struct alignas(16) RowBound {
  float scale;
  float norm;      // |q| / s_q
  float residual;  // |q - s_q c_q| / s_q
};

// No canonical score of this pair is above it; infinite where a float cannot hold it. The double
// arithmetic errs by less than 2^-50 of the norms, the sum of a canonical score by less than 2^-45;
// ItemBound::residual has room for 2^-40. Rounding to a float is monotone, so rounding the bound up
// covers the rounding of the score.
__device__ inline float upper_bound(const RowBound& row, const ItemBound& item, int dot) {
  const double units = dot + static_cast<double>(row.norm) * item.residual +
                       static_cast<double>(row.residual) * item.norm;
  return __double2float_ru(static_cast<double>(row.scale) * item.scale * units) + 0.0F;
}

// A row's part of the integer thresholds below, in registers while the tiles go by.
struct RowGate {
  float threshold = INFINITY;  // in units of the row's scale; infinite: nothing passes
  float norm = 0.0F, residual = 0.0F;
};

__device__ inline RowGate make_gate(const RowBound& row, float threshold) {
  // One float lower, because what lies between the two may round up to the threshold; far from zero
  // the room in least_dot covers that, near zero it is much. A quotient beyond the floats is cut: a
  // lower gate is never wrong.
  const double units = static_cast<double>(nextafterf(threshold, -INFINITY)) / row.scale;
  return {units > FLT_MAX ? FLT_MAX : static_cast<float>(units), row.norm, row.residual};
}

// An integer that the dot product of codes reaches for every item of the tile whose upper bound
// reaches the row's threshold. One part in 2^21 covers the float arithmetic.
__device__ inline int least_dot(const RowGate& row, const TileBound& tile) {
  constexpr float kCut = 4294967296.0F;  // beyond every dot product
  const float inverse = row.threshold > 0.0F ? tile.least_inverse : tile.most_inverse;
  const float wanted = fminf(fmaxf(row.threshold * inverse, -kCut), kCut);
  const float slack = row.norm * tile.residual + row.residual * tile.norm;
  const float least = floorf(wanted - slack - (fabsf(wanted) + slack) * 0x1p-21F - 1.0F);
  if (least >= 2147483648.0F) return INT_MAX;
  return least > -2147483648.0F ? static_cast<int>(least) : INT_MIN;
}

}  // namespace hypertower::cuda
