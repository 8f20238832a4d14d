// The CUDA top-K must give the bits of the reference. The same source runs on the emulator and on a
// GPU.
#include "kernels/topk.h"

#include "kernels/cuda/topk.h"
#include "kernels/error.h"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/cuda/topk_device_case.h"
#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;

// What calls take that would not repay the quantising of their items. With the least scratch, so
// that rows take several passes and segments overflow.
constexpr cuda::TopKOptions kReference{.scan = cuda::TopKScan::kReference, .scratch_keys = 1};

void expect_reference(const NamedCases& cases) {
  for (const auto& [name, c] : cases) {
    SCOPED_TRACE(name);
    expect_same(run_cuda(c, kReference), reference(c));
  }
}

TEST(CudaTopK, AgreesWithTheReferenceOnShapes) {
  struct Shape {
    int64_t batch, items, dim, k;
  };
  const Shape shapes[] = {{1, 1, 1, 1},    {2, 31, 8, 10},  {3, 129, 12, 300}, {4, 300, 21, 10},
                          {5, 300, 16, 1}, {1, 700, 4, 64}, {9, 129, 3, 129},  {2, 31, 65, 30}};
  for (const auto& [batch, items, dim, k] : shapes) {
    SCOPED_TRACE(::testing::Message()
                 << "B " << batch << " N " << items << " D " << dim << " K " << k);
    const TopKCase c = gaussian_case(batch + dim, batch, items, dim, k);
    expect_same(run_cuda(c, kReference), reference(c));
  }
}

TEST(CudaTopK, PassesAndPartsDoNotMatter) {
  const TopKCase c = gaussian_case(50, 2, 1500, 8, 20);
  const TopKResult expected = reference(c);
  for (const int64_t scratch : {1, 8 * 600, 1 << 20}) {
    expect_same(run_cuda(c, {.scan = cuda::TopKScan::kReference, .scratch_keys = scratch}),
                expected);
  }
}

// Every item of every chunk is a candidate.
TEST(CudaTopK, AChunkOfCandidatesFits) {
  std::vector<float> ascending(1100);
  std::iota(ascending.begin(), ascending.end(), 0.0F);
  const TopKCase c = scores_case(ascending, 5);
  expect_same(run_cuda(c, kReference), reference(c));
}

TEST(CudaTopK, AgreesOnHardScores) {
  expect_reference(score_pattern_cases(260, 1));
  expect_reference(score_pattern_cases(260, 20));
}

TEST(CudaTopK, AgreesOnExtremeMagnitudes) {
  expect_reference(magnitude_cases(130, 10));
}

TEST(CudaTopK, AgreesUnderFilters) {
  expect_reference(filter_cases(4, 130, 10));
  expect_reference(filter_cases(2, 65, 100));
}

TEST(CudaTopK, TakesListsLongerThanAChunk) {
  TopKCase c = gaussian_case(60, 2, 300, 4, 3);
  Rng rng(1);
  c.adjust.resize(2);
  for (const int64_t id : random_ids(rng, 700, 300)) c.adjust[0].emplace_back(id, 0.25F);
  expect_same(run_cuda(c, kReference), reference(c));
}

TEST(CudaTopK, ReturnsNothingFromNothing) {
  for (const auto& [batch, items] : {std::pair{0, 5}, {3, 0}}) {
    const TopKCase c = gaussian_case(1, batch, items, 4, 2);
    expect_same(run_cuda(c, kReference), reference(c));
  }
  const TopKCase no_columns = gaussian_case(1, 2, 5, 0, 3);
  expect_same(run_cuda(no_columns), reference(no_columns));
}

TEST(CudaTopK, IsReachedThroughTheOp) {
  const TopKCase c = gaussian_case(70, 3, 200, 16, 5);
  DeviceCase device(c);
  topk(device.in, device.out, {.device = DeviceType::kCuda});
  expect_same(device.result(), reference(c));
}

std::string error_of(const TopKCase& c) {
  DeviceCase device(c);
  try {
    topk(device.in, device.out, {.device = DeviceType::kCuda});
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(CudaTopKError, SaysWhatTheCpuSays) {
  const TopKCase good = gaussian_case(1, 3, 50, 4, 2);
  TopKCase c = good;
  c.exclude = {{1}, {2, 50}, {60}};
  EXPECT_EQ(error_of(c),
            "topk: expected item ids in [0, 50) in exclude, got 50 at row 1, position 1; leave out "
            "items that the index does not hold.");
  c = good;
  c.adjust = {{}, {}, {{0, 1.0F}, {-7, 0.0F}}};
  EXPECT_EQ(error_of(c),
            "topk: expected item ids in [0, 50) in adjust, got -7 at row 2, position 1; leave out "
            "items that the index does not hold.");
  c.adjust = {{}, {{0, std::nanf("")}}, {}};
  EXPECT_EQ(error_of(c),
            "topk: expected adjust_delta finite or -inf, got nan at row 1, position 0; -inf "
            "excludes an item, a large finite delta puts it first.");
  c = good;
  c.masks = {std::vector<bool>(50, true)};
  c.mask_of_row = {0, -1, 1};
  EXPECT_EQ(error_of(c),
            "topk: expected mask_of_row in [-1, 1), got 1 at row 2; -1 means no mask.");
}

TEST(CudaTopKError, ChecksOffsetsBeforeItReadsTheLists) {
  TopKCase c = gaussian_case(1, 3, 50, 4, 2);
  c.exclude = {{1}, {2, 3}, {4}};
  DeviceCase device(c);
  const DeviceArray<int64_t> broken(std::vector<int64_t>{0, int64_t{1} << 40, 3, 4});
  device.in.exclude.offsets = broken.data();
  try {
    topk(device.in, device.out, {.device = DeviceType::kCuda});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "topk: expected the offsets of exclude never to decrease, got 1099511627776 and "
                 "then 3 at row 1; offsets are running totals of the row lengths.");
  }
}

TEST(CudaScorePairs, AgreesWithTheReference) {
  const TopKCase c = gaussian_case(2, 3, 50, 21, 1);
  const std::vector<int64_t> ids = {0, 49, -1, 7, 7, 7, -1, -1, 20};
  const DeviceArray<float> queries(c.query_data), items(c.item_data);
  const DeviceArray<int64_t> device_ids(ids);
  const DeviceArray<float> out(9);
  const Exec exec{.device = DeviceType::kCuda};
  score_pairs({queries.data(), 3, 21}, {items.data(), 50, 21}, {device_ids.data(), 3, 3},
              {out.data(), 3, 3}, exec);
  std::vector<float> expected;
  for (int i = 0; i < 9; ++i) {
    expected.push_back(
        ids[i] < 0 ? -std::numeric_limits<float>::infinity()
                   : reference_score(&c.query_data[i / 3 * 21], &c.item_data[ids[i] * 21], 21));
  }
  EXPECT_EQ(bits(out.to_host()), bits(expected));

  const DeviceArray<int64_t> beyond(std::vector<int64_t>{0, 1, 2, 3, 4, 50});
  try {
    score_pairs({queries.data(), 2, 21}, {items.data(), 50, 21}, {beyond.data(), 2, 3},
                {out.data(), 2, 3}, exec);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "score_pairs: expected item ids in [-1, 50), got 50 at row 1, position 2; -1 marks "
        "an empty place.");
  }
}

}  // namespace
}  // namespace hypertower
