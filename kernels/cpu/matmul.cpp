#include "kernels/cpu/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kLanes = 16;
using Tag = hn::CappedTag<float, kLanes>;
using Vector = hn::Vec<Tag>;
constexpr int kWidth = static_cast<int>(hn::MaxLanes(Tag()));
constexpr int kParts = kLanes / kWidth;  // vectors that hold the lanes of one sum
// Sums that are kept in registers at once: kBlock x kBlock.
constexpr int kBlock = kParts == 1 ? 4 : 2;

template <int kRows, int kOuts>
struct Sums {
  Vector lane[kRows][kOuts][kParts];
};

// Adds 16 columns of each row.
template <int kRows, int kOuts>
HWY_INLINE void add_columns(const float* const (&x)[kRows], const float* const (&w)[kOuts],
                            int64_t j, Sums<kRows, kOuts>& sums) {
  const Tag d;
  for (int p = 0; p < kParts; ++p) {
    Vector weights[kOuts];
    for (int o = 0; o < kOuts; ++o) weights[o] = hn::LoadU(d, w[o] + j + p * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const Vector row = hn::LoadU(d, x[r] + j + p * kWidth);
      for (int o = 0; o < kOuts; ++o) {
        sums.lane[r][o][p] = hn::MulAdd(row, weights[o], sums.lane[r][o][p]);
      }
    }
  }
}

// The fixed order in which lanes are added: halves of 16, of 8, of 4, of 2.
HWY_INLINE float add_lanes(const Vector (&lane)[kParts]) {
  alignas(64) float sum[kLanes];
  for (int p = 0; p < kParts; ++p) hn::Store(lane[p], Tag(), sum + p * kWidth);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
  }
  return sum[0];
}

template <int kRows, int kOuts>
HWY_NOINLINE void dot_block(const float* x, int64_t x_ld, const float* w, int64_t w_ld, int64_t n,
                            float* out, int64_t out_ld) {
  const float* x_rows[kRows];
  const float* w_rows[kOuts];
  for (int r = 0; r < kRows; ++r) x_rows[r] = x + r * x_ld;
  for (int o = 0; o < kOuts; ++o) w_rows[o] = w + o * w_ld;
  Sums<kRows, kOuts> sums;
  for (auto& row : sums.lane) {
    for (auto& sum : row) {
      for (Vector& part : sum) part = hn::Zero(Tag());
    }
  }
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) add_columns(x_rows, w_rows, j, sums);
  if (j < n) {  // the last columns, continued with zeros
    float x_tail[kRows][kLanes] = {};
    float w_tail[kOuts][kLanes] = {};
    for (int r = 0; r < kRows; ++r) {
      for (int64_t i = j; i < n; ++i) x_tail[r][i - j] = x_rows[r][i];
      x_rows[r] = x_tail[r];
    }
    for (int o = 0; o < kOuts; ++o) {
      for (int64_t i = j; i < n; ++i) w_tail[o][i - j] = w_rows[o][i];
      w_rows[o] = w_tail[o];
    }
    add_columns(x_rows, w_rows, 0, sums);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int o = 0; o < kOuts; ++o) out[r * out_ld + o] = add_lanes(sums.lane[r][o]);
  }
}

template <int kRows>
void dot_rows(const float* x, int64_t x_ld, MatrixView<const float> weight, float* out,
              int64_t out_ld) {
  int64_t o = 0;
  for (; o + kBlock <= weight.rows; o += kBlock) {
    dot_block<kRows, kBlock>(x, x_ld, weight.row(o), weight.ld, weight.cols, out + o, out_ld);
  }
  for (; o < weight.rows; ++o) {
    dot_block<kRows, 1>(x, x_ld, weight.row(o), weight.ld, weight.cols, out + o, out_ld);
  }
}

void matmul_transposed(MatrixView<const float> x, MatrixView<const float> weight,
                       MatrixView<float> out) {
  int64_t r = 0;
  for (; r + kBlock <= x.rows; r += kBlock) {
    dot_rows<kBlock>(x.row(r), x.ld, weight, out.row(r), out.ld);
  }
  for (; r < x.rows; ++r) dot_rows<1>(x.row(r), x.ld, weight, out.row(r), out.ld);
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(matmul_transposed);

void matmul_transposed(MatrixView<const float> x, MatrixView<const float> weight,
                       MatrixView<float> out) {
  HWY_DYNAMIC_DISPATCH(matmul_transposed)(x, weight, out);
}

}  // namespace hypertower::cpu
#endif
