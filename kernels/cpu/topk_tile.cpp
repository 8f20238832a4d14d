#include "kernels/cpu/topk_tile.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/topk_tile.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void pack_tile(const float* items, int64_t stride, int64_t count, int64_t dim, TileColumn* tile) {
  if (count == kTileItems) {
    for (int64_t j = 0; j < dim; ++j) {
      for (int i = 0; i < kTileItems; ++i) tile[j].of_item[i] = items[i * stride + j];
    }
    return;
  }
  for (int64_t j = 0; j < dim; ++j) {
    for (int i = 0; i < kTileItems; ++i) {
      tile[j].of_item[i] = i < count ? items[i * stride + j] : 0.0;
    }
  }
}

// Two vectors of items at a time; one lane of the canonical sum after the other, so that the
// accumulators (2 x queries) fit the registers of every instruction set.
template <int kQueries>
HWY_NOINLINE void score_queries(const double* HWY_RESTRICT queries,
                                const TileColumn* HWY_RESTRICT tile, int64_t dim,
                                float* HWY_RESTRICT scores) {
  const hn::CappedTag<double, kTileItems / 2> d;
  const hn::Rebind<float, decltype(d)> f;
  using Vector = hn::Vec<decltype(d)>;
  const int width = static_cast<int>(hn::Lanes(d));
  for (int first = 0; first < kTileItems; first += 2 * width) {
    Vector lanes[8][kQueries][2];
    for (int lane = 0; lane < 8; ++lane) {
      Vector sum[kQueries][2];
      for (auto& s : sum) s[0] = s[1] = hn::Zero(d);
      for (int64_t j = lane; j < dim; j += 8) {
        const Vector x0 = hn::Load(d, tile[j].of_item + first);
        const Vector x1 = hn::Load(d, tile[j].of_item + first + width);
        for (int q = 0; q < kQueries; ++q) {
          // The product is exact, so a fused multiply-add gives the same bits as none.
          const Vector y = hn::Set(d, queries[q * dim + j]);
          sum[q][0] = hn::MulAdd(x0, y, sum[q][0]);
          sum[q][1] = hn::MulAdd(x1, y, sum[q][1]);
        }
      }
      for (int q = 0; q < kQueries; ++q) {
        lanes[lane][q][0] = sum[q][0];
        lanes[lane][q][1] = sum[q][1];
      }
    }
    for (int q = 0; q < kQueries; ++q) {
      for (int v = 0; v < 2; ++v) {
        const auto add = [&](int a, int b) { return hn::Add(lanes[a][q][v], lanes[b][q][v]); };
        const Vector total = hn::Add(hn::Add(add(0, 4), add(2, 6)), hn::Add(add(1, 5), add(3, 7)));
        const auto score = hn::Add(hn::DemoteTo(f, total), hn::Zero(f));  // -0 becomes +0
        hn::StoreU(score, f, scores + q * kTileItems + first + v * width);
      }
    }
  }
}

void score_tile(const double* queries, int num_queries, const TileColumn* tile, int64_t dim,
                float* scores) {
  if (num_queries == kTileQueries) {
    score_queries<kTileQueries>(queries, tile, dim, scores);
  } else {
    for (int q = 0; q < num_queries; ++q) {
      score_queries<1>(queries + q * dim, tile, dim, scores + q * kTileItems);
    }
  }
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {

HWY_EXPORT(pack_tile);
HWY_EXPORT(score_tile);

void pack_tile(const float* items, int64_t stride, int64_t count, int64_t dim, TileColumn* tile) {
  HWY_DYNAMIC_DISPATCH(pack_tile)(items, stride, count, dim, tile);
}

void score_tile(const double* queries, int num_queries, const TileColumn* tile, int64_t dim,
                float* scores) {
  HWY_DYNAMIC_DISPATCH(score_tile)(queries, num_queries, tile, dim, scores);
}

}  // namespace hypertower::cpu
#endif
