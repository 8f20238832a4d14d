#include "kernels/cpu/topk_float.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/topk_float.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Three vectors of items against as many queries as the registers hold.
uint32_t float_pass(const float* HWY_RESTRICT tile, const float* HWY_RESTRICT queries, int64_t dim,
                    const float* HWY_RESTRICT threshold, float* HWY_RESTRICT scores,
                    uint64_t* HWY_RESTRICT lanes) {
  const hn::CappedTag<float, 16> d;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(d));
  constexpr int kQueries = kWidth == 16 ? 8 : 4;
  std::fill(lanes, lanes + 8, 0);
  for (int first = 0; first < kTileItems; first += 3 * kWidth) {
    for (int q0 = 0; q0 < 8; q0 += kQueries) {
      hn::Vec<decltype(d)> sum[kQueries][3];
      for (auto& query : sum) query[0] = query[1] = query[2] = hn::Zero(d);
      for (int64_t j = 0; j < dim; ++j) {
        const float* at = tile + j * kTileItems + first;
        const auto x = hn::Load(d, at);
        const auto y = hn::Load(d, at + kWidth);
        const auto z = hn::Load(d, at + 2 * kWidth);
        for (int q = 0; q < kQueries; ++q) {
          const auto e = hn::Set(d, queries[j * 8 + q0 + q]);
          sum[q][0] = hn::MulAdd(x, e, sum[q][0]);
          sum[q][1] = hn::MulAdd(y, e, sum[q][1]);
          sum[q][2] = hn::MulAdd(z, e, sum[q][2]);
        }
      }
      for (int q = 0; q < kQueries; ++q) {
        const auto least = hn::Set(d, threshold[q0 + q]);
        for (int v = 0; v < 3; ++v) {
          hn::Store(sum[q][v], d, scores + (q0 + q) * kTileItems + first + v * kWidth);
          uint8_t bits[8] = {};
          hn::StoreMaskBits(d, hn::Ge(sum[q][v], least), bits);
          lanes[q0 + q] |= static_cast<uint64_t>(bits[0] | bits[1] << 8) << (first + v * kWidth);
        }
      }
    }
  }
  uint32_t found = 0;
  for (int q = 0; q < 8; ++q) found |= static_cast<uint32_t>(lanes[q] != 0) << q;
  return found;
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(float_pass);

float pack_floats(MatrixView<const float> items, const Slot* slots, float* tile) {
  float largest = 0.0F;
  for (int i = 0; i < kTileItems; ++i) {
    if (slots[i].item == kNoItem) {
      for (int64_t j = 0; j < items.cols; ++j) tile[j * kTileItems + i] = 0.0F;
      continue;
    }
    const float* row = items.data + slots[i].item * items.ld;
    double squares = 0.0;
    float magnitude = 0.0F;
    for (int64_t j = 0; j < items.cols; ++j) {
      tile[j * kTileItems + i] = row[j];
      squares += double{row[j]} * row[j];
      magnitude = std::max(magnitude, std::fabs(row[j]));
    }
    const auto norm = static_cast<float>(std::sqrt(squares) * (1.0 + 0x1p-20));
    largest = std::max(largest, magnitude > kMaxMagnitude ? HUGE_VALF : norm);
  }
  return largest;
}

uint32_t float_pass(const float* tile, const float* queries, int64_t dim, const float* threshold,
                    float* scores, uint64_t* lanes) {
  return HWY_DYNAMIC_DISPATCH(float_pass)(tile, queries, dim, threshold, scores, lanes);
}

}  // namespace hypertower::cpu
#endif
