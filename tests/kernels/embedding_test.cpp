// Lookups: pooling, bad ids, offsets. Backward: embedding_backward_test.cpp.
#include "kernels/embedding.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <limits>

#include "kernels/error.h"
#include "tests/kernels/embedding_oracle.h"

namespace hypertower::test {
namespace {

constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

std::vector<float> forward(const Lookup& lookup, const Exec& exec = {},
                           BadIds policy = BadIds::kThrow, IdReport* report = nullptr) {
  std::vector<float> out(lookup.num_bags() * lookup.dim, -7.0F);
  const IdReport got = embedding_bag(lookup.table_view(), lookup.bags(), lookup.pool, policy,
                                     {out.data(), lookup.num_bags(), lookup.dim}, exec);
  if (report != nullptr) *report = got;
  return out;
}

void expect_near(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], 2e-5 * (1.0 + std::abs(want[i]))) << "element " << i;
  }
}

// The message of the error that `call` throws.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kArgument);
    return error.what();
  }
  return "no error";
}

TEST(EmbeddingBag, MatchesOracleForEveryWidthPoolAndWeights) {
  for (int64_t dim : kDims) {
    for (Pool pool : {Pool::kSum, Pool::kMean}) {
      for (bool weighted : {false, true}) {
        SCOPED_TRACE(testing::Message() << "dim " << dim << " mean " << (pool == Pool::kMean)
                                        << " weighted " << weighted);
        const Lookup lookup = make_lookup(50, dim, kLengths, pool, weighted);
        expect_near(forward(lookup), oracle_forward(lookup));
      }
    }
  }
}

TEST(EmbeddingBag, SmallLiteralExample) {
  const std::vector<float> table = {1, 2, 10, 20, 100, 200};
  const Lookup lookup{3, 2, Pool::kMean, table, {}, {0, 2, 2, 1}, {0, 2, 2, 4}, {}};
  EXPECT_EQ(forward(lookup), (std::vector<float>{50.5F, 101, 0, 0, 55, 110}));
}

TEST(EmbeddingBag, EmptyLookupsTouchNothingAndGiveZeros) {
  for (Pool pool : {Pool::kSum, Pool::kMean}) {
    EXPECT_TRUE(forward(make_lookup(5, 3, {}, pool, false)).empty());
    EXPECT_EQ(forward(make_lookup(5, 3, {0, 0}, pool, true)), std::vector<float>(6, 0.0F));
    EXPECT_EQ(forward(make_lookup(0, 3, {0, 0}, pool, false)), std::vector<float>(6, 0.0F));
  }
  const Bags none;  // no offsets at all
  const MatrixView<const float> table(nullptr, 0, 4);
  EXPECT_EQ(embedding_bag(table, none, Pool::kSum, BadIds::kThrow, {nullptr, 0, 4}, {}).dropped, 0);
}

TEST(EmbeddingBag, OneBagWithAllIdsAndOneRowWithAllIds) {
  expect_near(forward(make_lookup(1000, 16, {5000}, Pool::kSum, false)),
              oracle_forward(make_lookup(1000, 16, {5000}, Pool::kSum, false)));
  const Lookup same = make_lookup(1, 5, {100, 0, 200}, Pool::kMean, false);
  expect_near(forward(same), oracle_forward(same));
}

// The sum of a long bag is that of its pieces of 256 ids, in order, whoever sums them.
TEST(EmbeddingBag, LongBagsAreSummedInPieces) {
  constexpr int64_t kPiece = 256, kDim = 19;
  for (int64_t length : {kPiece + 1, int64_t{3000}, int64_t{5000}, kPiece * kPiece}) {
    const Lookup lookup = make_lookup(500, kDim, {3, length, 0, 2}, Pool::kSum, true);
    std::vector<int64_t> lengths(length / kPiece, kPiece);
    if (length % kPiece != 0) lengths.push_back(length % kPiece);
    Lookup pieces = make_lookup(500, kDim, lengths, Pool::kSum, true);
    pieces.table = lookup.table;
    std::copy_n(lookup.ids.begin() + 3, length, pieces.ids.begin());
    std::copy_n(lookup.weights.begin() + 3, length, pieces.weights.begin());
    const std::vector<float> sums = forward(pieces);
    std::vector<float> want(kDim, 0.0F);
    for (size_t i = 0; i < sums.size(); ++i) want[i % kDim] += sums[i];
    for (int threads : {1, 2, 5}) {
      const std::vector<float> got = forward(lookup, {DeviceType::kCpu, threads});
      EXPECT_EQ(std::vector<float>(got.begin() + kDim, got.begin() + 2 * kDim), want) << length;
      expect_near(got, oracle_forward(lookup));
    }
  }
}

TEST(EmbeddingBag, SeveralTablesInOneCallEqualOneAfterTheOther) {
  std::vector<Lookup> lookups;
  std::vector<std::vector<float>> out;
  for (int64_t t = 0; t < 7; ++t) {
    lookups.push_back(make_lookup(40 + t, 5 * t + 1, std::vector<int64_t>(300 * t, 7), Pool::kMean,
                                  t % 2 == 0, t));
    out.emplace_back(lookups.back().num_bags() * lookups.back().dim, -7.0F);
  }
  std::vector<TableLookup> calls;
  for (size_t t = 0; t < lookups.size(); ++t) {
    const Lookup& l = lookups[t];
    calls.push_back({l.table_view(), l.bags(), l.pool, {out[t].data(), l.num_bags(), l.dim}});
  }
  embedding_bag(calls, BadIds::kThrow, {DeviceType::kCpu, 3});
  for (size_t t = 0; t < lookups.size(); ++t) EXPECT_EQ(out[t], forward(lookups[t]));

  std::fill(out[1].begin(), out[1].end(), -7.0F);
  lookups[6].ids[4000] = 46;
  EXPECT_NE(error_of([&] {
              embedding_bag(calls, BadIds::kThrow, {DeviceType::kCpu, 3});
            }).find("id 46 in bag 571, position 4000"),
            std::string::npos);
  EXPECT_EQ(out[1], std::vector<float>(out[1].size(), -7.0F));
}

TEST(EmbeddingBag, PaddedTableAndOutputKeepTheirPadding) {
  const Lookup lookup = make_lookup(20, 7, {3, 0, 4}, Pool::kSum, true);
  std::vector<float> table(20 * 10, -3.0F), out(3 * 9, -7.0F);
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t j = 0; j < 7; ++j) table[r * 10 + j] = lookup.table[r * 7 + j];
  }
  embedding_bag({table.data(), 20, 7, 10}, lookup.bags(), Pool::kSum, BadIds::kThrow,
                {out.data(), 3, 7, 9}, {});
  const std::vector<float> want = forward(lookup);
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t j = 0; j < 7; ++j) EXPECT_EQ(out[b * 9 + j], want[b * 7 + j]);
    EXPECT_EQ(out[b * 9 + 7], -7.0F);
    EXPECT_EQ(out[b * 9 + 8], -7.0F);
  }
}

// The table is only reserved: its few touched rows are all that takes memory.
TEST(EmbeddingBag, RowsBeyondFourBillionElementsAreFound) {
  constexpr int64_t kRows = (int64_t{1} << 32) / 64 + 100;
  constexpr size_t kBytes = kRows * 64 * sizeof(float);
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) GTEST_SKIP() << "cannot reserve 17 GB of addresses";
  const MatrixView<float> table(static_cast<float*>(memory), kRows, 64);
  const std::vector<int64_t> ids = {kRows - 1, 5, kRows - 1}, offsets = {0, 3};
  const Bags bags{ids.data(), offsets.data(), nullptr, 3, 1, "big"};
  std::fill_n(table.row(kRows - 1), 64, 2.0F);
  std::fill_n(table.row(5), 64, 1.0F);
  std::vector<float> out(64), grad(64, 1.0F);
  embedding_bag(table, bags, Pool::kSum, BadIds::kThrow, {out.data(), 1, 64}, {});
  EXPECT_EQ(out, std::vector<float>(64, 5.0F));
  const EmbeddingPlan plan(kRows, bags, BadIds::kThrow, {});
  embedding_backward(table, {}, {}, plan, bags, Pool::kSum, {grad.data(), 1, 64},
                     {.kind = Optimizer::kSgd, .lr = 0.5F}, {});
  EXPECT_EQ(*table.row(kRows - 1), 1.0F);
  EXPECT_EQ(*table.row(5), 0.5F);
  munmap(memory, kBytes);
}

TEST(EmbeddingBag, AnyNumberOfThreadsGivesTheSameBits) {
  const Lookup lookup = make_lookup(3000, 40, std::vector<int64_t>(2000, 9), Pool::kMean, true);
  const std::vector<float> one = forward(lookup, {DeviceType::kCpu, 1});
  for (int threads : {2, 3, 7}) EXPECT_EQ(forward(lookup, {DeviceType::kCpu, threads}), one);
}

TEST(EmbeddingBag, BadIdNamesFeatureBagPositionIdAndRowsAndWritesNothing) {
  for (int64_t bad : {int64_t{-1}, int64_t{10}, int64_t{11}, kMin, kMax, (int64_t{1} << 32) + 3}) {
    Lookup lookup = make_lookup(10, 4, {2, 0, 3}, Pool::kSum, false);
    lookup.ids[3] = bad;
    std::vector<float> out(3 * 4, -7.0F);
    EXPECT_EQ(error_of([&] {
                embedding_bag(lookup.table_view(), lookup.bags(), Pool::kSum, BadIds::kThrow,
                              {out.data(), 3, 4}, {});
              }),
              "feature 'genres': id " + std::to_string(bad) +
                  " in bag 2, position 3 is outside the table of 10 rows (valid: 0 to 9); map "
                  "unknown values to a row of their own.");
    EXPECT_EQ(out, std::vector<float>(12, -7.0F));
    EXPECT_NE(error_of([&] {
                EmbeddingPlan(10, lookup.bags(), BadIds::kThrow, {});
              }).find("in bag 2, position 3 is outside the table of 10 rows"),
              std::string::npos);
  }
}

TEST(EmbeddingBag, AnyIdIsBadInAnEmptyTable) {
  const Lookup lookup = make_lookup(0, 4, {1}, Pool::kSum, false);
  EXPECT_NE(error_of([&] { forward(lookup); })
                .find("id 0 in bag 0, position 0 is outside the "
                      "table of 0 rows (the table is empty)"),
            std::string::npos);
}

TEST(EmbeddingBag, DroppedIdsContributeZeroAndAreCounted) {
  for (Pool pool : {Pool::kSum, Pool::kMean}) {
    for (bool weighted : {false, true}) {
      Lookup lookup = make_lookup(10, 21, {2, 0, 30, 3}, pool, weighted);
      lookup.ids[5] = (int64_t{1} << 32) + 2;
      lookup.ids[9] = -1;
      lookup.ids[34] = kMax;
      IdReport report;
      expect_near(forward(lookup, {}, BadIds::kDrop, &report), oracle_forward(lookup));
      EXPECT_EQ(report.dropped, 3);
      EXPECT_EQ(report.first_bag, 2);
      EXPECT_EQ(report.first_position, 5);
      EXPECT_EQ(report.first_id, (int64_t{1} << 32) + 2);
    }
  }
}

struct BrokenOffsets {
  std::vector<int64_t> offsets;
  const char* message;
};

TEST(EmbeddingBag, BrokenOffsetsAreErrorsUnderEveryPolicy) {
  const BrokenOffsets cases[] = {
      {{1, 2, 4}, "offsets[0] is 1, expected 0."},
      {{-1, 2, 4}, "offsets[0] is -1, expected 0."},
      {{0, 3, 2, 4}, "offsets[2] is 2, below offsets[1] = 3; offsets never decrease."},
      {{0, 2, kMin}, "offsets[2] is -9223372036854775808, below offsets[1] = 2"},
      {{0, 2, 3}, "offsets[2] is 3, expected the number of ids, n = 4."},
      {{0, 2, 5}, "offsets[2] is 5, expected the number of ids, n = 4."},
      {{0, kMax, kMax}, "offsets[2] is 9223372036854775807, expected the number of ids, n = 4."},
      {{0}, "offsets[0] is 0, expected the number of ids, n = 4."},
  };
  for (const BrokenOffsets& broken : cases) {
    Lookup lookup = make_lookup(10, 4, {4}, Pool::kSum, false);
    lookup.offsets = broken.offsets;
    lookup.grad.resize(lookup.num_bags() * 4);
    std::vector<float> weight_grad(4);
    for (BadIds policy : {BadIds::kThrow, BadIds::kDrop}) {
      EXPECT_NE(error_of([&] { forward(lookup, {}, policy); }).find(broken.message),
                std::string::npos)
          << error_of([&] { forward(lookup, {}, policy); });
      EXPECT_NE(
          error_of([&] { EmbeddingPlan(10, lookup.bags(), policy, {}); }).find(broken.message),
          std::string::npos);
    }
    EXPECT_NE(error_of([&] {
                embedding_weight_gradient(lookup.table_view(), lookup.bags(), Pool::kSum,
                                          lookup.grad_view(), weight_grad.data(), {});
              }).find(broken.message),
              std::string::npos);
  }
}

TEST(EmbeddingBag, ShapesThatDoNotFitAreErrors) {
  const Lookup lookup = make_lookup(10, 4, {2, 3}, Pool::kSum, false);
  std::vector<float> out(64);
  const auto call = [&](MatrixView<float> view) {
    return error_of([&] {
      embedding_bag(lookup.table_view(), lookup.bags(), Pool::kSum, BadIds::kThrow, view, {});
    });
  };
  EXPECT_EQ(call({out.data(), 3, 4}),
            "embedding_bag: expected out of 2 x 4, got 3 x 4 with row stride 4.");
  EXPECT_EQ(call({out.data(), 2, 5}),
            "embedding_bag: expected out of 2 x 4, got 2 x 5 with row stride 5.");
  EXPECT_EQ(call({out.data(), 2, 4, 3}),
            "embedding_bag: expected out of 2 x 4, got 2 x 4 with row stride 3.");
  EXPECT_EQ(call({nullptr, 2, 4}), "embedding_bag: out of 2 x 4 has no memory (null pointer).");

  Bags bags = lookup.bags();
  bags.n = int64_t{1} << 31;
  EXPECT_NE(error_of([&] {
              EmbeddingPlan(10, bags, BadIds::kThrow, {});
            }).find("expected fewer than 2^31 ids"),
            std::string::npos);
  bags = lookup.bags();
  bags.ids = nullptr;
  EXPECT_NE(error_of([&] { EmbeddingPlan(10, bags, BadIds::kThrow, {}); }).find("ids is null"),
            std::string::npos);
}

}  // namespace
}  // namespace hypertower::test
