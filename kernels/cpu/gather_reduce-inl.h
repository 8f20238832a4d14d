// One loop for both directions of an embedding bag: the sum of some rows of a matrix, each times a
// scale, held in registers a strip of columns at a time. Included once per SIMD target.
//
// `Rows` says which rows:
//   static constexpr bool kScaled   scale(e) is used
//   bool valid(int64_t e)           rows that are not are skipped
//   const float* row(int64_t e), float scale(int64_t e), void prefetch(int64_t e)
#if defined(HYPERTOWER_CPU_GATHER_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#undef HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#else
#define HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#endif

#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A row is asked for this many ids before it is summed: the latency of memory at a few ns per id.
inline constexpr int64_t kPrefetchDistance = 16;

// Must be inlined: GCC drops calls of a function that only prefetches, as one without effects.
HWY_INLINE void prefetch_row(const float* row, int64_t dim) {
  constexpr int64_t kLine = 64 / sizeof(float);
  constexpr int64_t kMaxLines = 16;  // beyond that the hardware follows the stream itself
  const int64_t end = HWY_MIN(dim, kMaxLines * kLine);
  for (int64_t c = 0; c < end; c += kLine) hwy::Prefetch(row + c);
}

// out[0, kVectors * lanes) = sum over e in [begin, end) of scale(e) * row(e)[column ...].
template <size_t kVectors, class D, class Rows>
HWY_INLINE void reduce_strip(D d, const Rows& rows, int64_t begin, int64_t end, int64_t column,
                             float* HWY_RESTRICT out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sum[kVectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
  for (int64_t e = begin; e < end; ++e) {
    if (column == 0) rows.prefetch(e + kPrefetchDistance);
    if (!rows.valid(e)) continue;
    const float* HWY_RESTRICT row = rows.row(e) + column;
    if constexpr (Rows::kScaled) {
      const auto scale = hn::Set(d, rows.scale(e));
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        sum[v] = hn::MulAdd(scale, hn::LoadU(d, row + v * lanes), sum[v]);
      }
    } else {
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        sum[v] = hn::Add(sum[v], hn::LoadU(d, row + v * lanes));
      }
    }
  }
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sum[v], d, out + v * lanes);
}

// out[0, dim) = sum over e in [begin, end) of scale(e) * row(e).
template <class Rows>
HWY_INLINE void gather_reduce(const Rows& rows, int64_t begin, int64_t end, int64_t dim,
                              float* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; dim - c >= 8 * lanes; c += 8 * lanes) reduce_strip<8>(d, rows, begin, end, c, out + c);
  if (dim - c >= 4 * lanes) {
    reduce_strip<4>(d, rows, begin, end, c, out + c);
    c += 4 * lanes;
  }
  if (dim - c >= 2 * lanes) {
    reduce_strip<2>(d, rows, begin, end, c, out + c);
    c += 2 * lanes;
  }
  if (dim - c >= lanes) {
    reduce_strip<1>(d, rows, begin, end, c, out + c);
    c += lanes;
  }
  // Fewer columns than a vector is wide: halve the vector, so that no row is read past its end.
  if (dim - c >= 8) {
    reduce_strip<1>(hn::CappedTag<float, 8>(), rows, begin, end, c, out + c);
    c += 8;
  }
  if (dim - c >= 4) {
    reduce_strip<1>(hn::CappedTag<float, 4>(), rows, begin, end, c, out + c);
    c += 4;
  }
  for (; c < dim; ++c) reduce_strip<1>(hn::CappedTag<float, 1>(), rows, begin, end, c, out + c);
}

// sum of a[i] * b[i].
HWY_INLINE float dot(const float* a, const float* b, int64_t dim) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d);
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) {
    sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; c < dim; ++c) total += a[c] * b[c];
  return total;
}

}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
