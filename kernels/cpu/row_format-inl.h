// Numbers of table rows in vectors of float: loads of every format, stores of those that are
// trained. Included once per SIMD target.
#if defined(HYPERTOWER_CPU_ROW_FORMAT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYPERTOWER_CPU_ROW_FORMAT_INL_H_
#undef HYPERTOWER_CPU_ROW_FORMAT_INL_H_
#else
#define HYPERTOWER_CPU_ROW_FORMAT_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/embedding_table.h"
#include "kernels/stochastic_rounding.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const Bfloat16* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const Float16* p) {
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
}
// The codes of an int8 row.
template <class D>
HWY_INLINE hn::Vec<D> load_row(D d, const uint8_t* p) {
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<int32_t, D> d32;
  return hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, p)));
}

// rounding::random_bits of the columns from `column` on.
template <class D32>
HWY_INLINE hn::Vec<D32> random_bits(D32 d, uint32_t row_key, int64_t column) {
  const auto at = hn::Iota(d, static_cast<uint32_t>(column));
  auto x = hn::Add(hn::Set(d, row_key), hn::Mul(at, hn::Set(d, rounding::kColumnStep)));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, rounding::kFirstFactor));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, rounding::kSecondFactor));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

template <class D>
HWY_INLINE void store_row(D d, hn::Vec<D> v, float* p, uint32_t, int64_t) {
  hn::StoreU(v, d, p);
}

// Stochastic rounding, as rounding::to_bfloat16.
template <class D>
HWY_INLINE void store_row(D, hn::Vec<D> v, Bfloat16* p, uint32_t row_key, int64_t column) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<int32_t, D> di;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::BitCast(d32, v);
  const auto infinity = hn::Set(d32, 0x7f800000U);
  const auto random = hn::And(random_bits(d32, row_key, column), hn::Set(d32, 0xffffU));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, random));
  const auto is_nan = hn::Gt(hn::And(bits, hn::Set(d32, 0x7fffffffU)), infinity);
  const auto kept =
      hn::Or(hn::ShiftRight<16>(bits), hn::IfThenElseZero(is_nan, hn::Set(d32, 0x40U)));
  const auto is_finite = hn::Ne(hn::And(bits, infinity), infinity);
  const auto chosen = hn::IfThenElse(is_finite, rounded, kept);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, chosen)), d16, reinterpret_cast<uint16_t*>(p));
}

// Stochastic rounding, as rounding::to_float16.
template <class D>
HWY_INLINE void store_row(D d, hn::Vec<D> v, Float16* p, uint32_t row_key, int64_t column) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<int32_t, D> di;
  const hn::Rebind<uint32_t, D> d32;
  const auto random = random_bits(d32, row_key, column);
  const auto bits = hn::BitCast(d32, v);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 0x8000U));
  const auto magnitude = hn::And(bits, hn::Set(d32, 0x7fffffffU));
  const auto bounded = hn::Min(magnitude, hn::Set(d32, 0x477fe000U));
  const auto normal =
      hn::ShiftRight<13>(hn::Sub(hn::Add(bounded, hn::And(random, hn::Set(d32, 0x1fffU))),
                                 hn::Set(d32, uint32_t{127 - 15} << 23)));
  const auto steps = hn::Mul(hn::BitCast(d, bounded), hn::Set(d, 0x1p24F));
  const auto up =
      hn::Mul(hn::ConvertTo(d, hn::BitCast(di, hn::And(random, hn::Set(d32, 0xffffffU)))),
              hn::Set(d, 0x1p-24F));
  // Only small numbers: conversion of others is not used and must not trap.
  const auto is_normal = hn::Gt(bounded, hn::Set(d32, 0x387fffffU));
  const auto few = hn::IfThenZeroElse(hn::RebindMask(d, is_normal), hn::Add(steps, up));
  const auto subnormal = hn::BitCast(d32, hn::ConvertTo(di, few));
  const auto finite = hn::Or(sign, hn::IfThenElse(is_normal, normal, subnormal));
  const auto is_nan = hn::Gt(magnitude, hn::Set(d32, 0x7f800000U));
  const auto chosen = hn::IfThenElse(is_nan, hn::Or(sign, hn::Set(d32, 0x7e00U)), finite);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, chosen)), d16, reinterpret_cast<uint16_t*>(p));
}

}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HYPERTOWER_CPU_ROW_FORMAT_INL_H_
