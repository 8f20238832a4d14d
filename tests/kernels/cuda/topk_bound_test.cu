// The bound under the int8 scan: no canonical score is above it, the integer thresholds let pass
// whatever it lets pass, and it is near.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/topk_items.h"
#include "kernels/cuda/topk_quantize.cuh"
#include "kernels/cuda/topk_rows.cuh"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;
using namespace cuda;

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Pair {
  float bound;      // by position of the item
  uint32_t id;      // of that item
  unsigned missed;  // thresholds that the bound reaches and the integers do not
};

// A warp per query, a lane per item. Thresholds around the bound and around the query's scores.
__global__ void bound_kernel(MatrixView<const float> queries, ItemCodes items, int64_t num_items,
                             Pair* out) {
  SHARED(uint4, codes, [64]);
  const int lane = static_cast<int>(threadIdx.x);
  const int64_t row = blockIdx.x;
  const float* query = queries.data + row * queries.ld;
  const float scale = code_scale<32, false>(query, queries.cols, lane);
  const CodeNorms norm = quantize<32, false>(query, queries.cols, items.chunks, lane, scale,
                                             [&](int c, uint4 sixteen) { codes[c] = sixteen; });
  __syncwarp();
  const RowBound bound{scale, norm.vector, norm.residual};
  const auto* item_codes = reinterpret_cast<const int4*>(items.codes);
  for (int64_t at = lane; at < num_items; at += 32) {
    const int64_t tile = at / kItemTile;
    int dot = 0;
    for (int c = 0; c < items.chunks; ++c) {
      const int4 x = item_codes[(tile * items.chunks + c) * kItemTile + at % kItemTile];
      dot = __dp4a(x.x, static_cast<int>(codes[c].x), dot);
      dot = __dp4a(x.y, static_cast<int>(codes[c].y), dot);
      dot = __dp4a(x.z, static_cast<int>(codes[c].z), dot);
      dot = __dp4a(x.w, static_cast<int>(codes[c].w), dot);
    }
    const float most = upper_bound(bound, items.bounds[at], dot);
    const float thresholds[] = {
        most, nextafterf(most, -INFINITY), most - fabsf(most) * 0x1p-10F, -INFINITY, 0.0F, -most};
    unsigned missed = 0;
    for (const float threshold : thresholds) {
      const bool passes = dot >= least_dot(make_gate(bound, threshold), items.tiles[tile]);
      if (most >= threshold && !passes) ++missed;
    }
    out[row * num_items + at] = {most, items.bounds[at].id, missed};
  }
}

struct Sizes {
  int64_t queries, items, dim;
};

// The largest gap between bound and score, in units of the product of the norms.
double expect_bounds(const std::vector<float>& queries, const std::vector<float>& items, Sizes n) {
  const DeviceArray<float> device_queries(queries);
  const DeviceArray<float> device_items(items);
  const DeviceItems quantized({device_items.data(), n.items, n.dim}, nullptr);
  const DeviceArray<Pair> out(n.queries * n.items);
  check(launch(bound_kernel, {.grid = static_cast<unsigned>(n.queries), .block = 32},
               MatrixView<const float>{device_queries.data(), n.queries, n.dim}, quantized.codes(),
               n.items, out.data()),
        "bounds");
  const std::vector<Pair> pairs = out.to_host();
  const auto norm = [&](const float* x) {
    double sum = 0.0;
    for (int64_t j = 0; j < n.dim; ++j) sum += static_cast<double>(x[j]) * x[j];
    return std::sqrt(sum);
  };
  double gap = 0.0;
  int64_t below = 0;
  int64_t missed = 0;
  for (int64_t i = 0; i < n.queries * n.items; ++i) {
    const float* query = &queries[i / n.items * n.dim];
    const float* item = &items[pairs[i].id * n.dim];
    const float score = reference_score(query, item, n.dim);
    below += pairs[i].bound >= score ? 0 : 1;
    missed += pairs[i].missed;
    const double norms = norm(query) * norm(item);
    if (norms > 1e-30 && pairs[i].bound < kInf) {
      gap = std::max(gap, (static_cast<double>(pairs[i].bound) - score) / norms);
    }
  }
  EXPECT_EQ(below, 0);
  EXPECT_EQ(missed, 0);
  return gap;
}

TEST(CudaTopKBound, IsNearForOrdinaryVectors) {
  Rng rng(1);
  for (const int64_t dim : {8, 64, 200}) {
    const std::vector<float> queries = gaussian(rng, 4 * dim);
    const std::vector<float> items = gaussian(rng, 300 * dim);
    EXPECT_LT(expect_bounds(queries, items, {4, 300, dim}), 0.03) << dim;
  }
}

TEST(CudaTopKBound, HoldsForEveryMagnitude) {
  Rng rng(2);
  for (const float query_scale : {1e-44F, 1e-38F, 1e-20F, 1.0F, 1e19F, 1e37F}) {
    for (const float item_scale : {1e-44F, 1e-38F, 1e-20F, 1.0F, 1e19F, 1e37F}) {
      SCOPED_TRACE(::testing::Message() << query_scale << " and " << item_scale);
      expect_bounds(gaussian(rng, 2 * 19, query_scale), gaussian(rng, 140 * 19, item_scale),
                    {2, 140, 19});
    }
  }
}

TEST(CudaTopKBound, HoldsForOutliersZerosAndMixedScales) {
  Rng rng(3);
  std::cauchy_distribution<float> heavy;
  std::vector<float> queries(6 * 40);
  for (float& x : queries) x = heavy(rng);
  std::fill(queries.begin(), queries.begin() + 40, 0.0F);
  queries[45] = std::numeric_limits<float>::max();
  std::vector<float> items(300 * 40);
  for (size_t i = 0; i < items.size(); ++i) {
    items[i] = std::ldexp(heavy(rng), static_cast<int>(i / 40 % 60) - 30);
  }
  std::fill(items.begin() + 80, items.begin() + 160, 0.0F);
  items[200] = std::numeric_limits<float>::max();
  items[241] = std::numeric_limits<float>::denorm_min();
  expect_bounds(queries, items, {6, 300, 40});
}

}  // namespace
}  // namespace hypertower
