#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax_tile.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "kernels/cpu/softmax_tile.h"

#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vector = hn::Vec<Tag>;

// Accumulators of one block of a product: 4 x 4 vectors with 32 registers, 4 x 2 with 16.
constexpr int64_t kBlockRows = 4;
constexpr int64_t kBlockVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

// out[i][v] (+)= sum over k of a[i * a_row + k * a_k] * b[k][v], finished by `finish(sum, i, at)`.
template <int64_t kRows, int64_t kVectors, class Finish>
HWY_INLINE void product_block(int64_t depth, const float* a, int64_t a_row, int64_t a_k,
                              const float* b, int64_t b_ld, const Finish& finish) {
  const Tag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(d);
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[kVectors];
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVectors; ++v) right[v] = hn::Load(d, b + k * b_ld + v * lanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kRows; ++i) {
      const Vector left = hn::Set(d, a[i * a_row + k * a_k]);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(left, right[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVectors; ++v) finish(sum[i][v], i, v * lanes);
  }
}

// finish(sum, row, column) for every vector of the product a [rows, depth] x b [depth, columns].
// REQUIRES: columns is a multiple of 16.
template <class Finish>
HWY_INLINE void product(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t a_row,
                        int64_t a_k, const float* b, int64_t b_ld, const Finish& finish) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Tag()));
  const int64_t wide = kBlockVectors * lanes;
  int64_t j = 0;
  for (; j + wide <= columns; j += wide) {
    int64_t i = 0;
    for (; i + kBlockRows <= rows; i += kBlockRows) {
      product_block<kBlockRows, kBlockVectors>(depth, a + i * a_row, a_row, a_k, b + j, b_ld,
                                               [&](Vector sum, int64_t di, int64_t dj)
                                                   HWY_ATTR { finish(sum, i + di, j + dj); });
    }
    for (; i < rows; ++i) {
      product_block<1, kBlockVectors>(depth, a + i * a_row, a_row, a_k, b + j, b_ld,
                                      [&](Vector sum, int64_t di, int64_t dj)
                                          HWY_ATTR { finish(sum, i + di, j + dj); });
    }
  }
  for (; j < columns; j += lanes) {
    int64_t i = 0;
    for (; i + kBlockRows <= rows; i += kBlockRows) {
      product_block<kBlockRows, 1>(depth, a + i * a_row, a_row, a_k, b + j, b_ld,
                                   [&](Vector sum, int64_t di, int64_t dj)
                                       HWY_ATTR { finish(sum, i + di, j + dj); });
    }
    for (; i < rows; ++i) {
      product_block<1, 1>(depth, a + i * a_row, a_row, a_k, b + j, b_ld,
                          [&](Vector sum, int64_t di, int64_t dj)
                              HWY_ATTR { finish(sum, i + di, j + dj); });
    }
  }
}

// e^x to about 1 ulp for x <= 88; 0 below -87, where the result would not be a normal number. A NaN
// stays one. x = q ln 2 + r, |r| <= ln 2 / 2; e^r by the polynomial of Cephes' expf.
HWY_INLINE Vector exp(Vector x) {
  const Tag d;
  const hn::RebindToSigned<Tag> di;
  const Vector magic = hn::Set(d, 12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector rounded = hn::MulAdd(x, hn::Set(d, 1.44269504F), magic);
  const Vector q = hn::Sub(rounded, magic);
  Vector r = hn::NegMulAdd(q, hn::Set(d, 0.693359375F), x);
  r = hn::NegMulAdd(q, hn::Set(d, -2.12194440e-4F), r);
  Vector p = hn::Set(d, 1.9875691500e-4F);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3F));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2F));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1F));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1F));
  p = hn::MulAdd(p, hn::Mul(r, r), hn::Add(r, hn::Set(d, 1.0F)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, rounded), hn::Set(di, 127)));
  const Vector value = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0F)), value);
}

void logits(const float* columns, int64_t count, int64_t ld, const float* query_t, int64_t dim,
            float scale, const float* logq, float* z) {
  const Tag d;
  product(count, kTileRows, dim, columns, ld, 1, query_t, kTileRows,
          [&](Vector dot, int64_t c, int64_t r) HWY_ATTR {
            const Vector shift = hn::Set(d, logq != nullptr ? logq[c] : 0.0F);
            hn::Store(hn::MulSub(dot, hn::Set(d, scale), shift), d, z + c * kTileRows + r);
          });
}

void exp_sum(const float* z, int64_t count, float* max, float* sum) {
  const Tag d;
  const Vector lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t r = 0; r < kTileRows; r += static_cast<int64_t>(hn::Lanes(d))) {
    Vector top = hn::Load(d, max + r);
    for (int64_t c = 0; c < count; ++c) top = hn::Max(top, hn::Load(d, z + c * kTileRows + r));
    hn::Store(top, d, max + r);
    // A row without any unmasked column yet: -inf - 0 stays -inf and counts nothing.
    const Vector shift = hn::IfThenZeroElse(hn::Eq(top, lowest), top);
    Vector even = hn::Zero(d), odd = hn::Zero(d);
    int64_t c = 0;
    for (; c + 2 <= count; c += 2) {
      even = hn::Add(even, exp(hn::Sub(hn::Load(d, z + c * kTileRows + r), shift)));
      odd = hn::Add(odd, exp(hn::Sub(hn::Load(d, z + (c + 1) * kTileRows + r), shift)));
    }
    if (c < count) even = hn::Add(even, exp(hn::Sub(hn::Load(d, z + c * kTileRows + r), shift)));
    hn::Store(hn::Add(even, odd), d, sum + r);
  }
}

void probabilities(float* z, int64_t count, const float* log_z, const float* coefficient) {
  const Tag d;
  for (int64_t r = 0; r < kTileRows; r += static_cast<int64_t>(hn::Lanes(d))) {
    const Vector shift = hn::Load(d, log_z + r);
    const Vector factor = hn::Load(d, coefficient + r);
    for (int64_t c = 0; c < count; ++c) {
      float* at = z + c * kTileRows + r;
      hn::Store(hn::Mul(factor, exp(hn::Sub(hn::Load(d, at), shift))), d, at);
    }
  }
}

void add_d_query(const float* p, int64_t count, const float* columns, int64_t ld, float* d_query) {
  const Tag d;
  product(kTileRows, ld, count, p, 1, kTileRows, columns, ld,
          [&](Vector sum, int64_t r, int64_t j) HWY_ATTR {
            float* at = d_query + r * ld + j;
            hn::Store(hn::Add(hn::Load(d, at), sum), d, at);
          });
}

void add_d_column(const float* p, int64_t count, const float* queries, int64_t rows, int64_t ld,
                  float* d_column) {
  const Tag d;
  product(count, ld, rows, p, kTileRows, 1, queries, ld,
          [&](Vector sum, int64_t c, int64_t j) HWY_ATTR {
            float* at = d_column + c * ld + j;
            hn::Store(hn::Add(hn::Load(d, at), sum), d, at);
          });
}

SoftmaxTileKernels kernels() {
  return {logits, exp_sum, probabilities, add_d_query, add_d_column};
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(kernels);
SoftmaxTileKernels softmax_tile_kernels() {
  return HWY_DYNAMIC_DISPATCH(kernels)();
}

}  // namespace hypertower::cpu
#endif  // HWY_ONCE
