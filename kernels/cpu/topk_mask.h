// Masks of the CPU top-K: a bit per item, 1 = may be found; null: all may.
#pragma once

#include <cstdint>

#include "kernels/topk.h"

namespace hypertower::cpu {

inline const uint64_t* mask_of(const TopKInput& in, int64_t row) {
  if (in.masks == nullptr) return nullptr;
  const int32_t mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
  return mask < 0 ? nullptr : in.masks + mask * in.mask_words;
}

inline bool allowed(const uint64_t* mask, int64_t id) {
  return mask == nullptr || (mask[id / 64] >> (id % 64) & 1) != 0;
}

}  // namespace hypertower::cpu
