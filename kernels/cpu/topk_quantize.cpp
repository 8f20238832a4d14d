#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>
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

// to = (from - center) * weight, or from / weight without a center; weights are powers of two.
void balance(const float* HWY_RESTRICT from, int64_t dim, const float* HWY_RESTRICT center,
             const float* HWY_RESTRICT weight, float* HWY_RESTRICT to) {
  if (center == nullptr) {
    for (int64_t j = 0; j < dim; ++j) to[j] = from[j] / weight[j];
  } else {
    for (int64_t j = 0; j < dim; ++j) to[j] = (from[j] - center[j]) * weight[j];
  }
}

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

HWY_EXPORT(balance);
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
// the product of the norms (before centering).
double double_error(int64_t dim) {
  return static_cast<double>(dim) * 0x1p-52;
}

// Of a float subtraction, relative to its result.
constexpr double kCenterError = 0x1p-23;

constexpr int64_t kBalanceRows = 4096;

}  // namespace

TileOrder::TileOrder(int64_t tiles) : tiles_(std::max<int64_t>(tiles, 1)), step_(1), inverse_(1) {
  constexpr double kGolden = 0.6180339887498949;
  step_ = std::max<int64_t>(1, std::llround(static_cast<double>(tiles_) * kGolden));
  while (std::gcd(step_, tiles_) != 1) ++step_;
  // Euclid's algorithm, extended: inverse_ * step_ = 1 modulo tiles_.
  int64_t a = step_ % tiles_, b = tiles_, x = 1, y = 0;
  while (a > 1) {
    const int64_t quotient = b / a;
    b -= quotient * a;
    y -= quotient * x;
    std::swap(a, b);
    std::swap(x, y);
  }
  inverse_ = (x % tiles_ + tiles_) % tiles_;
}

void balance_columns(MatrixView<const float> items, float* center, float* weight) {
  const int64_t stride = std::max<int64_t>(1, items.rows / kBalanceRows);
  const int64_t rows = (items.rows + stride - 1) / stride;
  std::vector<double> sum(static_cast<size_t>(items.cols), 0.0), squares = sum;
  for (int64_t r = 0; r < items.rows; r += stride) {
    for (int64_t j = 0; j < items.cols; ++j) sum[j] += items.row(r)[j];
  }
  for (int64_t j = 0; j < items.cols; ++j) {
    center[j] = static_cast<float>(sum[j] / static_cast<double>(rows));
  }
  for (int64_t r = 0; r < items.rows; r += stride) {
    for (int64_t j = 0; j < items.cols; ++j) {
      const double x = double{items.row(r)[j]} - center[j];
      squares[j] += x * x;
    }
  }
  for (int64_t j = 0; j < items.cols; ++j) {
    const double spread = std::sqrt(squares[j] / static_cast<double>(rows));
    const double exponent = spread > 0.0 ? -std::round(std::log2(spread)) : 0.0;
    weight[j] =
        static_cast<float>(std::ldexp(1.0, static_cast<int>(std::clamp(exponent, -60.0, 60.0))));
  }
}

QuantizedQuery quantize_query(const float* query, int64_t dim, const float* center,
                              const float* weight, int8_t* out) {
  std::vector<float> balanced(static_cast<size_t>(dim));
  HWY_DYNAMIC_DISPATCH(balance)(query, dim, nullptr, weight, balanced.data());
  QuantizedQuery result;
  for (int64_t j = 0; j < dim; ++j) result.center += double{query[j]} * center[j];
  result.scale = scale_for(HWY_DYNAMIC_DISPATCH(max_magnitude)(balanced.data(), dim));
  const RowSums sums = code(balanced.data(), dim, result.scale, out);
  std::fill(out + dim, out + steps_of(dim) * 4, int8_t{0});
  result.residual = static_cast<float>(sums.residual * kUp);
  result.norm = static_cast<float>(sums.norm * kUp);
  return result;
}

void quantize_block(MatrixView<const float> items, int64_t first, int64_t count,
                    const float* center, const float* weight, QuantizedBlock* block) {
  const int64_t dim = items.cols;
  const int64_t steps = steps_of(dim);
  const auto tiles = static_cast<size_t>(tiles_of(count));
  block->bytes.resize(tiles * static_cast<size_t>(steps * kTileItems * 4));
  block->bounds.resize(tiles);
  block->slots.resize(tiles * kTileItems);
  uint8_t* const bytes = block->bytes.data();
  TileBounds* const bounds = block->bounds.data();
  Slot* const slots = block->slots.data();
  std::vector<float> balanced(static_cast<size_t>(dim));
  const auto balance_row = [&](int64_t i) {
    HWY_DYNAMIC_DISPATCH(balance)(items.row(first + i), dim, center, weight, balanced.data());
  };
  double center_norm = 0.0;
  for (int64_t j = 0; j < dim; ++j) {
    const double m = double{center[j]} * weight[j];
    center_norm += m * m;
  }
  center_norm = std::sqrt(center_norm);
  std::vector<float> magnitude(static_cast<size_t>(count));
  std::vector<uint32_t> order(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    balance_row(i);
    magnitude[i] = HWY_DYNAMIC_DISPATCH(max_magnitude)(balanced.data(), dim);
  }
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return magnitude[a] != magnitude[b] ? magnitude[a] > magnitude[b] : a < b;
  });
  std::vector<int8_t> coded(static_cast<size_t>(steps * 4), 0);
  for (int64_t t = 0; t < tiles_of(count); ++t) {
    uint8_t* const tile = bytes + t * steps * kTileItems * 4;
    double least = HUGE_VAL, most = 0.0, residual = 0.0, norm = 0.0;
    for (int64_t i = 0; i < kTileItems; ++i) {
      Slot& slot = slots[t * kTileItems + i];
      const int64_t place = t * kTileItems + i;
      if (place < count) {
        const uint32_t row = order[place];
        const bool wide = !(magnitude[row] <= kMaxMagnitude);
        const float scale = scale_for(wide ? kMaxMagnitude : magnitude[row]);
        balance_row(row);
        if (wide) std::fill(balanced.begin(), balanced.end(), 0.0F);
        const RowSums sums = code(balanced.data(), dim, scale, coded.data());
        slot = {scale, static_cast<uint32_t>(first + row)};
        least = std::min(least, 1.0 / scale);
        most = std::max(most, 1.0 / scale);
        const double of_row = sums.residual + sums.norm * kCenterError +
                              (sums.norm + center_norm) * double_error(dim);
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
