// __nv_bfloat16 and __half for a host compiler: storage, conversions (round to nearest even, NaN
// kept), arithmetic through float with one rounding, and their pairs.
#pragma once

#include "tests/cuemu/types.h"

#include <bit>
#include <cstdint>

namespace cuemu {

inline uint16_t float_to_bfloat16_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

inline float bfloat16_bits_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline uint16_t float_to_half_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 0x7fff;
  if (magnitude >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // rounds to infinity
  if (magnitude < 0x38800000U) {  // a subnormal half: adding 0.5 puts its last bit into bit 0
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

inline float half_bits_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fU;
  const uint32_t fraction = half & 0x3ffU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  const uint32_t wide = exponent == 31 ? 255U : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

}  // namespace cuemu

#define CUEMU_FLOAT16(type, pair, to_bits, from_bits)                                  \
  struct type {                                                                        \
    uint16_t bits;                                                                     \
    type() = default;                                                                  \
    type(float value) : bits(cuemu::to_bits(value)) {}                                 \
    operator float() const { return cuemu::from_bits(bits); }                          \
    type& operator+=(type other) { return *this = type(float(*this) + float(other)); } \
    type& operator-=(type other) { return *this = type(float(*this) - float(other)); } \
    type& operator*=(type other) { return *this = type(float(*this) * float(other)); } \
  };                                                                                   \
  inline type operator+(type a, type b) {                                              \
    return type(float(a) + float(b));                                                  \
  }                                                                                    \
  inline type operator-(type a, type b) {                                              \
    return type(float(a) - float(b));                                                  \
  }                                                                                    \
  inline type operator*(type a, type b) {                                              \
    return type(float(a) * float(b));                                                  \
  }                                                                                    \
  inline type operator/(type a, type b) {                                              \
    return type(float(a) / float(b));                                                  \
  }                                                                                    \
  struct alignas(4) pair {                                                             \
    type x, y;                                                                         \
  };

CUEMU_FLOAT16(__nv_bfloat16, __nv_bfloat162, float_to_bfloat16_bits, bfloat16_bits_to_float)
CUEMU_FLOAT16(__half, __half2, float_to_half_bits, half_bits_to_float)
#undef CUEMU_FLOAT16
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;
using half = __half;
using half2 = __half2;

inline __nv_bfloat16 __float2bfloat16(float v) {
  return __nv_bfloat16(v);
}
inline __nv_bfloat16 __float2bfloat16_rn(float v) {
  return __nv_bfloat16(v);
}
inline float __bfloat162float(__nv_bfloat16 v) {
  return float(v);
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) {
  return v.bits;
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 v;
  v.bits = bits;
  return v;
}
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) {
  return {a, b};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) {
  return __floats2bfloat162_rn(v.x, v.y);
}
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {float(v.x), float(v.y)};
}
inline float __low2float(__nv_bfloat162 v) {
  return float(v.x);
}
inline float __high2float(__nv_bfloat162 v) {
  return float(v.y);
}

inline __half __float2half(float v) {
  return __half(v);
}
inline __half __float2half_rn(float v) {
  return __half(v);
}
inline float __half2float(__half v) {
  return float(v);
}
inline unsigned short __half_as_ushort(__half v) {
  return v.bits;
}
inline __half __ushort_as_half(unsigned short bits) {
  __half v;
  v.bits = bits;
  return v;
}
inline __half2 __halves2half2(__half a, __half b) {
  return {a, b};
}
inline __half2 __floats2half2_rn(float a, float b) {
  return {__half(a), __half(b)};
}
inline __half2 __float22half2_rn(float2 v) {
  return __floats2half2_rn(v.x, v.y);
}
inline float2 __half22float2(__half2 v) {
  return {float(v.x), float(v.y)};
}
inline float __low2float(__half2 v) {
  return float(v.x);
}
inline float __high2float(__half2 v) {
  return float(v.y);
}
