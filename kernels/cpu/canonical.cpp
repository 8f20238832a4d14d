#include "kernels/cpu/canonical.h"

#include <algorithm>

#include "kernels/cpu/prefetch.h"
#include "kernels/topk_key.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/canonical.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// One row with kQueries queries. Vectors run over the columns: the eight lanes of the canonical sum
// are one vector of eight doubles, or two of four, or four of two.
template <int kQueries>
HWY_INLINE void score_row(const double* HWY_RESTRICT queries, int64_t stride,
                          const float* HWY_RESTRICT row, int64_t dim, float* HWY_RESTRICT out) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> f;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(d));
  constexpr int kParts = 8 / kWidth;
  hn::Vec<decltype(d)> sum[kQueries][kParts];
  for (auto& query : sum) {
    for (auto& part : query) part = hn::Zero(d);
  }
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    for (int p = 0; p < kParts; ++p) {
      const auto x = hn::PromoteTo(d, hn::LoadU(f, row + j + p * kWidth));
      for (int q = 0; q < kQueries; ++q) {
        const auto y = hn::LoadU(d, queries + q * stride + j + p * kWidth);
        sum[q][p] = hn::MulAdd(x, y, sum[q][p]);
      }
    }
  }
  double rest[8] = {};
  for (int64_t l = 0; j + l < dim; ++l) rest[l] = row[j + l];
  for (int q = 0; q < kQueries; ++q) {
    double lane[8];
    for (int p = 0; p < kParts; ++p) {
      if (j < dim) {  // the queries are padded, so lanes past the end add +0 to what they have
        sum[q][p] = hn::MulAdd(hn::LoadU(d, rest + p * kWidth),
                               hn::LoadU(d, queries + q * stride + j + p * kWidth), sum[q][p]);
      }
      hn::StoreU(sum[q][p], d, lane + p * kWidth);
    }
    out[q] = canonical_total(lane);
  }
}

template <int kQueries>
HWY_NOINLINE void score_rows(const double* queries, MatrixView<const float> items,
                             const uint32_t* ids, int64_t first, int64_t count, float* scores) {
  constexpr int64_t kAhead = 8;  // rows; memory answers in about that time
  const int64_t stride = canonical_stride(items.cols);
  const auto row = [&](int64_t i) {
    return items.data + (ids == nullptr ? first + i : int64_t{ids[i]}) * items.ld;
  };
  for (int64_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      const float* next = row(i + kAhead);
      for (int64_t j = 0; j < items.cols; j += 16) prefetch_line(next + j);
    }
    score_row<kQueries>(queries, stride, row(i), items.cols, scores + i * kQueries);
  }
}

void canonical_scores(const double* queries, int num_queries, MatrixView<const float> items,
                      const uint32_t* ids, int64_t first, int64_t count, float* scores) {
  switch (num_queries) {
    case 1:
      return score_rows<1>(queries, items, ids, first, count, scores);
    case 2:
      return score_rows<2>(queries, items, ids, first, count, scores);
    case 3:
      return score_rows<3>(queries, items, ids, first, count, scores);
    default:
      return score_rows<4>(queries, items, ids, first, count, scores);
  }
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(canonical_scores);

void widen_query(const float* query, int64_t dim, double* out) {
  std::copy(query, query + dim, out);
  std::fill(out + dim, out + canonical_stride(dim), 0.0);
}

void canonical_scores(const double* queries, int num_queries, MatrixView<const float> items,
                      const uint32_t* ids, int64_t first, int64_t count, float* scores) {
  HWY_DYNAMIC_DISPATCH(canonical_scores)(queries, num_queries, items, ids, first, count, scores);
}

}  // namespace hypertower::cpu
#endif
