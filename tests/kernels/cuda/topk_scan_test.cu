// The int8 scans of the CUDA top-K and what stands behind them: each must give the bits of the
// reference by every way that a row can take, and a test fails where a way was never taken.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/finite_rows.h"
#include "kernels/cuda/topk.h"
#include "kernels/cuda/topk_session.h"
#include "kernels/cuda/topk_sessions.h"
#include "tests/kernels/cuda/topk_device_case.h"
#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;
using cuda::TopKOptions;
using cuda::TopKPaths;
using cuda::TopKScan;

constexpr float kInf = std::numeric_limits<float>::infinity();

bool can_run(TopKScan scan) {
  int major = 0;
  int minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  return scan != TopKScan::kWgmma || (major == 9 && minor == 0);
}

class CudaTopKScan : public ::testing::TestWithParam<TopKScan> {
 protected:
  void SetUp() override {
    if (!can_run(GetParam())) GTEST_SKIP() << "needs sm_90a";
  }
  // Two tiles of candidates: a tile for the sample, a tile of hits. Chunks of a few tiles.
  TopKOptions options() const {
    return {.scan = GetParam(), .capacity = 256, .chunk_products = 2048};
  }

  TopKPaths expect_reference(const TopKCase& c, TopKOptions options) {
    TopKPaths paths;
    options.paths = &paths;
    expect_same(run_cuda(c, options), reference(c));
    return paths;
  }
  // Each scan takes every third case: what differs between cases is mostly behind the scans.
  void expect_reference(const NamedCases& cases) {
    for (size_t i = static_cast<size_t>(GetParam()) % 3; i < cases.size(); i += 3) {
      SCOPED_TRACE(cases[i].first);
      expect_reference(cases[i].second, options());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(, CudaTopKScan,
                         ::testing::Values(TopKScan::kDot, TopKScan::kMma, TopKScan::kWgmma,
                                           TopKScan::kChunks),
                         [](const auto& info) {
                           return info.param == TopKScan::kDot     ? "Dot"
                                  : info.param == TopKScan::kMma   ? "Mma"
                                  : info.param == TopKScan::kWgmma ? "Wgmma"
                                                                   : "Chunks";
                         });

TEST_P(CudaTopKScan, AgreesWithTheReferenceOnShapes) {
  struct Shape {
    int64_t batch, items, dim, k;
  };
  std::vector<Shape> shapes = {{1, 1, 1, 1},      {2, 31, 8, 10},  {3, 129, 12, 300},
                               {2, 1300, 21, 10}, {9, 300, 16, 1}, {1, 1500, 4, 64},
                               {2, 300, 65, 30},  {3, 200, 300, 5}};
  if (GetParam() != TopKScan::kDot) shapes.push_back({130, 40, 5, 2});  // more than a group
  for (const auto& [batch, items, dim, k] : shapes) {
    SCOPED_TRACE(::testing::Message()
                 << "B " << batch << " N " << items << " D " << dim << " K " << k);
    expect_reference(gaussian_case(batch + dim, batch, items, dim, k), options());
  }
}

TEST_P(CudaTopKScan, AgreesOnHardScores) {
  expect_reference(score_pattern_cases(260, 1));
  expect_reference(score_pattern_cases(300, 20));
}

TEST_P(CudaTopKScan, AgreesOnExtremeMagnitudes) {
  expect_reference(magnitude_cases(270, 10));
}

TEST_P(CudaTopKScan, AgreesUnderFilters) {
  expect_reference(filter_cases(5, 270, 10));
  expect_reference(filter_cases(2, 270, 100));
}

TEST_P(CudaTopKScan, TakesRowsInPasses) {
  TopKOptions few = options();
  few.scratch_keys = 2 * few.capacity;
  expect_reference(filter_cases(5, 300, 10).back().second, few);
}

// Ten tiles: three samples of one, then two more, then the others, and no row needs a repair.
TEST_P(CudaTopKScan, NarrowsItsThresholds) {
  TopKOptions o = options();
  o.capacity = 640;
  o.seed_stride = 4;
  o.warm_stride = 2;
  const TopKPaths paths = expect_reference(gaussian_case(5, 3, 1250, 24, 30), o);
  EXPECT_EQ(paths.too_many, 0);
  EXPECT_EQ(paths.too_few, 0);
  EXPECT_EQ(paths.reference, 0);
}

TEST_P(CudaTopKScan, RepairsThresholdsThatAreTooHigh) {
  TopKOptions o = options();
  o.capacity = 600;
  o.seed_stride = 2;
  o.forced_threshold = kInf;
  const TopKPaths paths = expect_reference(gaussian_case(5, 3, 600, 24, 30), o);
  EXPECT_EQ(paths.too_few, 3);
  EXPECT_EQ(paths.reference, 0);
}

// The threshold lets 20 of the items pass, fewer than k: it falls to what k of them reach.
TEST_P(CudaTopKScan, LowersAThresholdToTheSmallestScoreItKnows) {
  std::vector<float> scores(600);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i * 7 % 600);
  TopKOptions o = options();
  o.capacity = 300;
  o.seed_stride = 5;
  o.forced_threshold = 579.5F;
  const TopKPaths paths = expect_reference(scores_case(scores, 30), o);
  EXPECT_EQ(paths.too_few, 1);
}

TEST_P(CudaTopKScan, RepairsRowsWithTooManyHits) {
  TopKOptions o = options();
  o.seed_stride = 5;
  o.forced_threshold = -kInf;  // nothing is passed over
  const TopKPaths paths = expect_reference(gaussian_case(5, 3, 600, 24, 10), o);
  EXPECT_EQ(paths.too_many, 3);
  EXPECT_EQ(paths.reference, 0);
}

// Room for k alone: each repair finds too many again, until the rows are scored as a whole.
TEST_P(CudaTopKScan, ScoresRowsAsAWholeThatNoThresholdHelps) {
  TopKOptions o = options();
  o.capacity = 1;
  const TopKPaths paths = expect_reference(gaussian_case(5, 3, 400, 24, 10), o);
  EXPECT_GE(paths.too_many, 3);
  EXPECT_EQ(paths.reference, 3);
}

TEST_P(CudaTopKScan, ScoresRowsOfEqualItemsAsAWhole) {
  const TopKPaths paths =
      expect_reference(scores_case(std::vector<float>(600, 0.5F), 10), options());
  EXPECT_EQ(paths.reference, 1);
}

TEST_P(CudaTopKScan, GathersTheItemsOfANarrowMask) {
  TopKCase c = gaussian_case(5, 4, 700, 24, 10);
  Rng rng(3);
  c.masks = {random_mask(rng, 700, 0.1), random_mask(rng, 700, 0.9)};
  c.mask_of_row = {0, 1, -1, 0};
  c.exclude = {{1, 2, 3, 4, 5, 6, 7, 8}, {}, {}, {}};
  EXPECT_EQ(expect_reference(c, options()).gathered, 2);
  TopKOptions never = options();
  never.gather_limit = 0;
  EXPECT_EQ(expect_reference(c, never).gathered, 0);
}

// One mask for all rows, of which the device finds that it passes few enough items to pack them.
TEST_P(CudaTopKScan, PacksTheItemsOfASharedMask) {
  Rng rng(3);
  // The last: two groups of places.
  for (const auto& [passing, items] : {std::pair{0.0, 700}, {0.05, 700}, {0.6, 700}, {0.3, 8300}}) {
    SCOPED_TRACE(::testing::Message() << passing << " of " << items);
    TopKCase c = gaussian_case(5, 2, items, 24, 10);
    c.masks = {random_mask(rng, items, passing)};
    c.exclude = {{1, 2, 3, 4, 5, 6, 7, 8}, {}};
    TopKOptions o = options();
    o.gather_limit = 20;
    o.pack_limit = items / 2;
    const TopKPaths paths = expect_reference(c, o);
    EXPECT_EQ(paths.gathered, passing == 0.0 ? 2 : 0);
    const bool packs = passing > 0.0 && passing < 0.5 && GetParam() != TopKScan::kChunks;
    EXPECT_EQ(paths.packed, packs ? 2 : 0);
  }
}

// As above in three steps, of samples of the packed items alone, and with every repair.
TEST_P(CudaTopKScan, NarrowsAndRepairsThresholdsOfPackedItems) {
  Rng rng(4);
  TopKCase c = gaussian_case(6, 3, 2500, 24, 30);
  c.masks = {random_mask(rng, 2500, 0.4)};
  TopKOptions o = options();
  o.gather_limit = 0;
  o.pack_limit = 2000;
  o.capacity = 640;
  o.seed_stride = 4;
  o.warm_stride = 2;
  const TopKPaths paths = expect_reference(c, o);
  EXPECT_EQ(paths.packed, GetParam() == TopKScan::kChunks ? 0 : 3);
  EXPECT_EQ(paths.too_many, 0);
  EXPECT_EQ(paths.too_few, 0);
  o.forced_threshold = kInf;
  EXPECT_GE(expect_reference(c, o).too_few, 3);
  o.forced_threshold = -kInf;
  EXPECT_GE(expect_reference(c, o).too_many, 3);
  o.capacity = 30;
  EXPECT_EQ(expect_reference(c, o).reference, 3);
}

TEST_P(CudaTopKScan, KeepsQuantizedItems) {
  const TopKCase c = gaussian_case(5, 4, 700, 24, 10);
  DeviceCase device(c);
  const cuda::DeviceItems items(device.in.items, nullptr);
  TopKOptions o = options();
  o.items = &items;
  for (int call = 0; call < 2; ++call) {
    cuda::topk(device.in, device.out, nullptr, o);
    expect_same(device.result(), reference(c));
  }
}

TEST(CudaTopKSession, RecordsItsLaunchesOnce) {
  TopKCase c = gaussian_case(5, 4, 700, 24, 10);
  DeviceCase device(c);
  const cuda::DeviceItems items(device.in.items, nullptr);
  cuda::TopKSession session(items, 9, 10, nullptr, {.capacity = 256});
  for (int call = 0; call < 3; ++call) {
    session.topk(device.in, device.out);
    expect_same(device.result(), reference(c));
    EXPECT_EQ(session.recordings(), call == 0 ? 0 : 1);
    c.query_data[call] = 3.0F;
    c.query_data[30 + call] = call == 0 ? 2.0F : std::nanf("");
    device.set_queries(c.query_data);
  }
  session.topk(device.in, device.out);
  expect_same(device.result(), reference(c));
  EXPECT_EQ(session.recordings(), 1);

  // Fewer rows, masks, lists: other arguments than those recorded.
  for (const auto& [name, other] : filter_cases(3, 700, 10)) {
    if (name != "masks by row" && name != "masks, exclusions and adjustments") continue;
    SCOPED_TRACE(name);
    TopKCase same_items = other;
    same_items.dim = 24;
    same_items.query_data.assign(c.query_data.begin(), c.query_data.begin() + 24 * 3);
    same_items.item_data = c.item_data;
    DeviceCase more(same_items);
    more.in.items = device.in.items;
    for (int call = 0; call < 2; ++call) {
      session.topk(more.in, more.out);
      expect_same(more.result(), reference(same_items));
    }
  }
  EXPECT_EQ(session.recordings(), 2);
}

// A mask whose bits change between replays: packed, then gathered, then scanned as it is.
TEST(CudaTopKSession, PacksAnewInEveryReplay) {
  TopKCase c = gaussian_case(5, 4, 3000, 24, 10);
  Rng rng(8);
  c.masks = {random_mask(rng, 3000, 0.2)};
  DeviceCase device(c);
  const cuda::DeviceItems items(device.in.items, nullptr);
  TopKPaths paths;
  cuda::TopKSession session(items, 4, 10, nullptr,
                            {.capacity = 256, .pack_limit = 1000, .paths = &paths});
  for (const double passing : {0.2, 0.2, 0.05, 0.7, 0.25}) {
    c.masks = {random_mask(rng, 3000, passing)};
    device.set_masks(c);
    session.topk(device.in, device.out);
    expect_same(device.result(), reference(c));
    EXPECT_EQ(paths.packed, passing == 0.05 || passing == 0.7 ? 0 : 4);
    EXPECT_EQ(paths.gathered, passing == 0.05 ? 4 : 0);
  }
  EXPECT_EQ(session.recordings(), 1);
}

TEST(CudaTopKSession, RecordsProductsInChunks) {
  const TopKCase c = gaussian_case(5, 4, 700, 24, 10);
  DeviceCase device(c);
  const cuda::DeviceItems items(device.in.items, nullptr);
  cuda::TopKSession session(items, 9, 10, nullptr,
                            {.scan = TopKScan::kChunks, .capacity = 256, .chunk_products = 2048});
  for (int call = 0; call < 2; ++call) {
    session.topk(device.in, device.out);
    expect_same(device.result(), reference(c));
  }
  EXPECT_EQ(session.recordings(), 1);
}

TEST(CudaTopKSessions, TakeAnyNumberOfRowsAndAnyK) {
  const TopKCase all = gaussian_case(6, 40, 140, 8, 10);
  DeviceCase items_of(all);
  cuda::TopKSessions sessions(items_of.in.items, nullptr, 32);
  // Growing and shrinking batches, other k, more k than codes repay, more rows than a session
  // takes.
  for (const auto& [batch, k] : {std::pair<int64_t, int64_t>{3, 10},
                                 {3, 10},
                                 {20, 10},
                                 {3, 10},
                                 {3, 4},
                                 {0, 4},
                                 {2, 40},
                                 {40, 10}}) {
    TopKCase c = all;
    c.batch = batch;
    c.k = k;
    c.query_data.resize(static_cast<size_t>(batch * 8));
    DeviceCase device(c);
    device.in.items = items_of.in.items;
    sessions.topk(device.in, device.out, nullptr);
    expect_same(device.result(), reference(c));
  }
}

TEST(CudaTopKSessions, FirstNonFiniteRow) {
  std::vector<float> values(50 * 7, 1.0F);
  const auto first = [&] {
    const DeviceArray<float> device(values);
    return cuda::first_non_finite_row({device.data(), 50, 7}, nullptr);
  };
  EXPECT_EQ(first(), -1);
  values[41 * 7 + 6] = std::nanf("");
  EXPECT_EQ(first(), 41);
  values[33 * 7] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(first(), 33);
}

// More columns than a group of rows can keep in shared memory, then more than codes are made for.
TEST(CudaTopKAuto, TakesManyColumns) {
  for (const int64_t dim : {1100, 4100}) {
    const TopKCase c = gaussian_case(7, 9, 140, dim, 5);
    expect_same(run_cuda(c), reference(c));
  }
}

TEST(CudaTopKAuto, ChoosesByTheBatch) {
  for (const int64_t batch : {1, 9}) {
    const TopKCase c = gaussian_case(70, batch, 140, 16, 5);
    expect_same(run_cuda(c), reference(c));
    DeviceCase device(c);
    const cuda::DeviceItems items(device.in.items, nullptr);
    cuda::topk(device.in, device.out, nullptr, {.items = &items});
    expect_same(device.result(), reference(c));
  }
}

}  // namespace
}  // namespace hypertower
