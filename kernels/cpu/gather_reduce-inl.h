// One loop for both directions of an embedding bag: the sum of some rows of a matrix, each times a
// scale, held in registers a strip of columns at a time. Included once per SIMD target.
//
// `Rows` says which rows:
//   static constexpr bool kScaled   scale(e) is used
//   static constexpr bool kBiased   bias(e) is added to each column, after the scale
//   bool valid(int64_t e)           rows that are not are skipped
//   const Element* row(int64_t e), float scale(int64_t e), float bias(int64_t e),
//   void prefetch(int64_t e)
#if defined(HYPERTOWER_CPU_GATHER_REDUCE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#undef HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#else
#define HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"
#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/row_format-inl.h"
#include "kernels/embedding_backend.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A row is asked for this many ids before it is summed: the latency of memory at a few ns per id.
inline constexpr int64_t kPrefetchDistance = 16;

HWY_INLINE void prefetch_row(const void* row, int64_t bytes) {
  constexpr int64_t kLine = 64;
  constexpr int64_t kMaxLines = 16;  // beyond that the hardware follows the stream itself
  const auto* first = static_cast<const char*>(row);
  const int64_t end = HWY_MIN(bytes, kMaxLines * kLine);
  for (int64_t at = 0; at < end; at += kLine) prefetch_line(first + at);
}

// Calls body(tag, column) for full vectors, then for ever narrower ones up to `dim`.
template <class Body>
HWY_INLINE void for_each_vector(int64_t dim, const Body& body) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) body(d, c);
  if (dim - c >= 8) {
    body(hn::CappedTag<float, 8>(), c);
    c += 8;
  }
  if (dim - c >= 4) {
    body(hn::CappedTag<float, 4>(), c);
    c += 4;
  }
  for (; c < dim; ++c) body(hn::CappedTag<float, 1>(), c);
}

// out[0, kVectors * lanes) = sum over e in [begin, end) of scale(e) * row(e)[column ...] + bias(e).
template <size_t kVectors, class D, class Rows>
HWY_INLINE void reduce_strip(D d, const Rows& rows, int64_t begin, int64_t end, int64_t column,
                             float* HWY_RESTRICT out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  hn::Vec<D> sum[kVectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
  float bias = 0.0F;
  for (int64_t e = begin; e < end; ++e) {
    if (column == 0) rows.prefetch(e + kPrefetchDistance);
    if (!rows.valid(e)) continue;
    const auto* HWY_RESTRICT row = rows.row(e) + column;
    if constexpr (Rows::kBiased) bias += rows.bias(e);
    if constexpr (Rows::kScaled) {
      const auto scale = hn::Set(d, rows.scale(e));
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        sum[v] = hn::MulAdd(scale, load_row(d, row + v * lanes), sum[v]);
      }
    } else {
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        sum[v] = hn::Add(sum[v], load_row(d, row + v * lanes));
      }
    }
  }
#pragma GCC unroll 8
  for (size_t v = 0; v < kVectors; ++v) {
    if constexpr (Rows::kBiased) sum[v] = hn::Add(sum[v], hn::Set(d, bias));
    hn::StoreU(sum[v], d, out + v * lanes);
  }
}

// out[0, dim) = sum over e in [begin, end) of scale(e) * row(e) + bias(e), in the order of e.
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
  // Fewer columns than two vectors: narrower ones, so that no row is read past its end.
  for_each_vector(dim - c, [&](auto tag, int64_t at) HWY_ATTR {
    reduce_strip<1>(tag, rows, begin, end, c + at, out + c + at);
  });
}

// The same for lists of any length, in pieces as kernels/embedding_backend.h says. `scratch` holds
// kPieceLevels * dim floats.
template <class Rows>
void sum_in_pieces(const Rows& rows, int64_t begin, int64_t end, int64_t dim, float* out,
                   float* scratch) {
  if (end - begin <= kPieceIds) return gather_reduce(rows, begin, end, dim, out);
  int64_t piece = kPieceIds;
  while (piece * kPieceIds < end - begin) piece *= kPieceIds;
  std::fill_n(out, dim, 0.0F);
  for (int64_t at = begin; at < end; at += piece) {
    sum_in_pieces(rows, at, std::min(at + piece, end), dim, scratch, scratch + dim);
    for_each_vector(dim, [&](auto d, int64_t c) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(d, out + c), hn::LoadU(d, scratch + c)), d, out + c);
    });
  }
}

// sum of a[i] * b[i], plus bias times the sum of a where `E` has codes.
template <class E>
HWY_INLINE float dot(const float* a, const E* b, int64_t dim, float scale = 1.0F,
                     float bias = 0.0F) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d), more = hn::Zero(d);  // two chains of additions
  int64_t c = 0;
  const auto product = [&](auto tag, int64_t at, auto so_far) HWY_ATTR {
    auto value = load_row(tag, b + at);
    if constexpr (std::is_same_v<E, uint8_t>) {
      value = hn::MulAdd(value, hn::Set(tag, scale), hn::Set(tag, bias));
    }
    return hn::MulAdd(hn::LoadU(tag, a + at), value, so_far);
  };
  for (; c + 2 * lanes <= dim; c += 2 * lanes) {
    sum = product(d, c, sum);
    more = product(d, c + lanes, more);
  }
  if (c + lanes <= dim) {
    sum = product(d, c, sum);
    c += lanes;
  }
  float total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, more)));
  const hn::CappedTag<float, 1> one;
  for (; c < dim; ++c) total = hn::GetLane(product(one, c, hn::Set(one, total)));
  return total;
}

}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HYPERTOWER_CPU_GATHER_REDUCE_INL_H_
