#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cpu/topk_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/topk_quantize.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

float max_magnitude(const float* HWY_RESTRICT row, int64_t dim) {
  const hn::ScalableTag<float> d;
  const int64_t width = static_cast<int64_t>(hn::Lanes(d));
  auto top = hn::Zero(d);
  int64_t j = 0;
  for (; j + width <= dim; j += width) top = hn::Max(top, hn::Abs(hn::LoadU(d, row + j)));
  float best = hn::GetLane(hn::MaxOfLanes(d, top));
  for (; j < dim; ++j) best = std::max(best, std::fabs(row[j]));
  return best;
}

// `out` gets `dim` numbers c = round(x / s), `sums` gets |x - s c|^2, |c|^2 and |x|^2.
void code_row(const float* HWY_RESTRICT row, int64_t dim, float scale, int8_t* HWY_RESTRICT out,
              double* HWY_RESTRICT sums) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> f;
  const hn::Rebind<int32_t, decltype(d)> i32;
  const hn::Rebind<int8_t, decltype(d)> i8;
  const int64_t width = static_cast<int64_t>(hn::Lanes(d));
  const auto inverse = hn::Set(d, 1.0 / scale);
  const auto step = hn::Set(d, scale);
  const auto limit = hn::Set(d, 127.0);
  auto residual2 = hn::Zero(d), coded2 = hn::Zero(d), norm2 = hn::Zero(d);
  const auto code = [&](const float* from, int8_t* to) {
    const auto x = hn::PromoteTo(d, hn::LoadU(f, from));
    const auto rounded = hn::Round(hn::Mul(x, inverse));
    const auto c = hn::Min(hn::Max(rounded, hn::Neg(limit)), limit);
    const auto error = hn::NegMulAdd(step, c, x);
    residual2 = hn::MulAdd(error, error, residual2);
    coded2 = hn::MulAdd(c, c, coded2);
    norm2 = hn::MulAdd(x, x, norm2);
    hn::StoreU(hn::DemoteTo(i8, hn::DemoteTo(i32, c)), i8, to);
  };
  int64_t j = 0;
  for (; j + width <= dim; j += width) code(row + j, out + j);
  if (j < dim) {  // zeros add nothing to any sum
    float rest[8] = {};
    int8_t coded[8];
    std::copy(row + j, row + dim, rest);
    code(rest, coded);
    std::copy(coded, coded + (dim - j), out + j);
  }
  sums[0] = hn::GetLane(hn::SumOfLanes(d, residual2));
  sums[1] = hn::GetLane(hn::SumOfLanes(d, coded2));
  sums[2] = hn::GetLane(hn::SumOfLanes(d, norm2));
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {
namespace {

HWY_EXPORT(max_magnitude);
HWY_EXPORT(code_row);

// Covers the rounding of every sum, square root and quotient that leads to a bound.
constexpr double kUp = 1.0 + 0x1p-20;

struct RowSums {
  double residual;  // |x - s c|
  double coded;     // |c|
  double norm;      // |x|
};

RowSums code(const float* row, int64_t dim, float scale, int8_t* out) {
  double squares[3];
  HWY_DYNAMIC_DISPATCH(code_row)(row, dim, scale, out, squares);
  return {std::sqrt(squares[0]), std::sqrt(squares[1]), std::sqrt(squares[2])};
}

// Dividing by it must neither overflow nor lose digits.
float scale_for(float magnitude) {
  return std::max(magnitude / 127.0F, 0x1p-100F);
}

// Canonical scores are sums in double, so they may differ from the true product by this share of
// the product of the norms.
double double_error(int64_t dim) {
  return static_cast<double>(dim) * 0x1p-52;
}

}  // namespace

QuantizedRow quantize_row(const float* row, int64_t dim, int8_t* out) {
  const float scale = scale_for(HWY_DYNAMIC_DISPATCH(max_magnitude)(row, dim));
  const RowSums sums = code(row, dim, scale, out);
  std::fill(out + dim, out + steps_of(dim) * 4, int8_t{0});
  return {scale, static_cast<float>(sums.residual * kUp), static_cast<float>(sums.norm * kUp)};
}

void quantize_block(MatrixView<const float> items, int64_t first, int64_t count, uint8_t* bytes,
                    TileBounds* bounds, Slot* slots) {
  const int64_t dim = items.cols;
  const int64_t steps = steps_of(dim);
  std::vector<float> magnitude(count);
  std::vector<uint32_t> order(count);
  for (int64_t i = 0; i < count; ++i) {
    magnitude[i] = HWY_DYNAMIC_DISPATCH(max_magnitude)(items.row(first + i), dim);
  }
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return magnitude[a] != magnitude[b] ? magnitude[a] > magnitude[b] : a < b;
  });
  std::vector<int8_t> coded(steps * 4, 0);
  for (int64_t t = 0; t < tiles_of(count); ++t) {
    uint8_t* const tile = bytes + t * steps * kTileItems * 4;
    double least = HUGE_VAL, most = 0.0, residual = 0.0, norm = 0.0;
    for (int64_t i = 0; i < kTileItems; ++i) {
      Slot& slot = slots[t * kTileItems + i];
      const int64_t place = t * kTileItems + i;
      if (place < count) {
        const int64_t row = first + order[place];
        const float scale = scale_for(magnitude[order[place]]);
        const RowSums sums = code(items.row(row), dim, scale, coded.data());
        slot = {scale, static_cast<uint32_t>(row)};
        least = std::min(least, 1.0 / scale);
        most = std::max(most, 1.0 / scale);
        const bool wide = magnitude[order[place]] > kMaxMagnitude;
        const double of_row = sums.residual + sums.norm * double_error(dim);
        residual = wide ? HUGE_VAL : std::max(residual, of_row / scale);
        norm = std::max(norm, sums.coded);
      } else {
        slot = {slots[t * kTileItems].scale, kNoItem};
        std::fill(coded.begin(), coded.end(), int8_t{0});
      }
      for (int64_t k = 0; k < steps; ++k) {
        uint32_t word;
        std::memcpy(&word, coded.data() + k * 4, 4);
        word ^= 0x80808080U;  // c + 128 in each byte
        std::memcpy(tile + (k * kTileItems + i) * 4, &word, 4);
      }
    }
    bounds[t] = {static_cast<float>(least * (2.0 - kUp)), static_cast<float>(most * kUp),
                 static_cast<float>(residual * kUp), static_cast<float>(norm * kUp)};
  }
}

}  // namespace hypertower::cpu
#endif
