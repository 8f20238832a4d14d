// Stochastic rounding of float32 to 16 bits: up with the probability of the part that is cut off,
// so that small steps of an optimizer are not lost but taken now and then (Gupta et al., "Deep
// Learning with Limited Numerical Precision", 2015). The random bits are a hash of seed, step, row
// and column: the same on every device, for any number of threads, whatever else is in the batch.
// One definition for host and device; kernels/cpu/row_format-inl.h repeats it in vectors. Pure.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace hypertower::rounding {

// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
HYPERTOWER_HOST_DEVICE constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

HYPERTOWER_HOST_DEVICE constexpr uint64_t step_key(uint64_t seed, int64_t step) {
  return mix(seed + 0x9e3779b97f4a7c15U * static_cast<uint64_t>(step));
}

HYPERTOWER_HOST_DEVICE constexpr uint32_t row_key(uint64_t step_key, int64_t row) {
  return static_cast<uint32_t>(mix(step_key ^ static_cast<uint64_t>(row)) >> 32);
}

inline constexpr uint32_t kColumnStep = 0x9e3779b9U;
inline constexpr uint32_t kFirstFactor = 0x7feb352dU;
inline constexpr uint32_t kSecondFactor = 0x846ca68bU;

// A 32-bit mixer with little bias ("lowbias32", Wellons 2018).
HYPERTOWER_HOST_DEVICE constexpr uint32_t random_bits(uint32_t row_key, uint32_t column) {
  uint32_t x = row_key + column * kColumnStep;
  x = (x ^ (x >> 16)) * kFirstFactor;
  x = (x ^ (x >> 15)) * kSecondFactor;
  return x ^ (x >> 16);
}

// Infinity stays, NaN stays NaN.
HYPERTOWER_HOST_DEVICE constexpr uint16_t to_bfloat16(float x, uint32_t random) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  if ((bits & 0x7f800000U) == 0x7f800000U) {
    return static_cast<uint16_t>(bits >> 16 | ((bits & 0x7fffffU) != 0 ? 0x40U : 0U));
  }
  return static_cast<uint16_t>((bits + (random & 0xffffU)) >> 16);
}

inline constexpr float kFloat16Max = 65504.0F;

// Beyond the largest binary16 number that number; NaN stays NaN.
HYPERTOWER_HOST_DEVICE constexpr uint16_t to_float16(float x, uint32_t random) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t sign = bits >> 16 & 0x8000U;
  uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00U);
  constexpr uint32_t kMax = 0x477fe000U;  // 65504
  if (magnitude > kMax) magnitude = kMax;
  if (magnitude >= 0x38800000U) {  // 2^-14: 13 bits of the fraction go, 127 - 15 from the exponent
    return static_cast<uint16_t>(
        sign | ((magnitude + (random & 0x1fffU) - (uint32_t{127 - 15} << 23)) >> 13));
  }
  // Below, binary16 counts in steps of 2^-24.
  const float steps = __builtin_bit_cast(float, magnitude) * 0x1p24F;
  const float up = static_cast<float>(random & 0xffffffU) * 0x1p-24F;
  return static_cast<uint16_t>(sign | static_cast<uint32_t>(steps + up));
}

}  // namespace hypertower::rounding
