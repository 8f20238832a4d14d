// How a top-K score is rounded, and the order of results as one integer: comparing keys compares
// (score descending, item id ascending), so selections and merges of any shape, on any device,
// agree. Shared by the CPU and the CUDA implementation. Pure.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace hypertower {

// The last steps of the canonical score (kernels/topk.h): eight lane sums to one float.
HYPERTOWER_HOST_DEVICE constexpr float canonical_total(const double (&lane)[8]) {
  const double total =
      ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
  return static_cast<float>(total) + 0.0F;  // -0 becomes +0
}

// The score of an adjusted item. A double holds enough digits for the sum of two floats that
// rounding it is rounding the exact sum.
HYPERTOWER_HOST_DEVICE constexpr float adjusted_score(float canonical, double delta) {
  return static_cast<float>(canonical + delta) + 0.0F;
}

namespace topk_key {

// Larger is better. No pair of a score and an id has this key.
inline constexpr uint64_t kNone = 0;

// Ids must fit the lower half.
inline constexpr int64_t kMaxItems = int64_t{1} << 32;

// Monotone: a < b as floats (neither NaN, no -0) exactly when ordered_bits(a) < ordered_bits(b).
// The smallest value, that of -inf, is 0x007fffff.
HYPERTOWER_HOST_DEVICE constexpr uint32_t ordered_bits(float score) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, score);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

HYPERTOWER_HOST_DEVICE constexpr uint64_t make(float score, int64_t id) {
  return (uint64_t{ordered_bits(score)} << 32) | static_cast<uint32_t>(~id);
}

HYPERTOWER_HOST_DEVICE constexpr float score(uint64_t key) {
  const uint32_t ordered = static_cast<uint32_t>(key >> 32);
  // Device code may not call std::bit_cast, hence the builtin.
  return __builtin_bit_cast(float, (ordered & 0x80000000U) != 0 ? ordered & 0x7fffffffU : ~ordered);
}

HYPERTOWER_HOST_DEVICE constexpr int64_t id(uint64_t key) {
  return static_cast<uint32_t>(~key);
}

}  // namespace topk_key
}  // namespace hypertower
