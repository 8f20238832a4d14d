// topk against the reference: random shapes, hard scores, filters. Ids and score bits must agree.
#include "kernels/topk.h"

#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;

void expect_reference(const NamedCases& cases) {
  for (const auto& [name, c] : cases) {
    SCOPED_TRACE(name);
    const TopKResult expected = reference(c);
    expect_same(run_cpu(c, 1), expected);
    expect_same(run_cpu(c, 3), expected);
  }
}

TEST(TopK, AgreesWithTheReferenceOnRandomShapes) {
  Rng rng(1);
  const auto pick = [&rng](std::initializer_list<int64_t> of) {
    return of.begin()[std::uniform_int_distribution<size_t>(0, of.size() - 1)(rng)];
  };
  for (int repeat = 0; repeat < 150; ++repeat) {
    const int64_t batch = pick({0, 1, 2, 4, 5, 31, 33});
    const int64_t items = pick({1, 2, 15, 16, 17, 63, 64, 65, 100, 257, 1000, 1500});
    const int64_t dim = pick({1, 3, 7, 8, 9, 16, 20, 31, 64, 65, 100});
    const int64_t k = pick({1, 2, 10, items, items + 5, 1024});
    SCOPED_TRACE(::testing::Message()
                 << "B " << batch << " N " << items << " D " << dim << " K " << k);
    const TopKCase c = gaussian_case(100 + repeat, batch, items, dim, k);
    expect_same(run_cpu(c, repeat % 4 + 1), reference(c));
  }
}

// Enough items for several ranges, so that ranges are merged.
TEST(TopK, AgreesWithTheReferenceAcrossItemRanges) {
  for (const int64_t k : {1, 100, 1024, 5000}) {
    const TopKCase c = gaussian_case(k, 5, 20011, 24, k);
    const TopKResult expected = reference(c);
    for (const int threads : {1, 2, 4}) expect_same(run_cpu(c, threads), expected);
  }
}

TEST(TopK, AgreesOnHardScores) {
  for (const int64_t k : {1, 2, 16, 100}) expect_reference(score_pattern_cases(1000, k));
  expect_reference(score_pattern_cases(9000, 300));
}

TEST(TopK, AgreesOnExtremeMagnitudes) {
  expect_reference(magnitude_cases(500, 20));
}

TEST(TopK, AgreesUnderFilters) {
  expect_reference(filter_cases(9, 700, 10));
  expect_reference(filter_cases(4, 9000, 50));
  expect_reference(filter_cases(3, 65, 100));
}

TEST(TopK, ReturnsNothingFromNoItems) {
  const TopKCase c = gaussian_case(1, 3, 0, 4, 2);
  const TopKResult r = run_cpu(c, 2);
  expect_same(r, reference(c));
  EXPECT_EQ(r.count, std::vector<int32_t>(3, 0));
  EXPECT_EQ(r.ids, std::vector<int64_t>(6, -1));
}

TEST(TopK, ScoresZeroColumnsAsZero) {
  const TopKCase c = gaussian_case(1, 2, 5, 0, 3);
  const TopKResult r = run_cpu(c);
  EXPECT_EQ(r.ids, (std::vector<int64_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(r.scores, std::vector<float>(6, 0.0F));
}

TEST(TopK, ReadsRowsByTheirLeadingDimension) {
  const TopKCase tight = gaussian_case(9, 3, 200, 10, 7);
  const auto spread = [](const std::vector<float>& x, int64_t dim, int64_t ld) {
    std::vector<float> y(x.size() / dim * ld, std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < x.size(); ++i) y[i / dim * ld + i % dim] = x[i];
    return y;
  };
  const std::vector<float> queries = spread(tight.query_data, 10, 13);
  const std::vector<float> items = spread(tight.item_data, 10, 17);
  std::vector<int64_t> ids(3 * 9, -5);
  std::vector<float> scores(3 * 8, -5.0F);
  std::vector<int32_t> count(3);
  std::vector<RowStatus> status(3);
  topk({.queries = {queries.data(), 3, 10, 13}, .items = {items.data(), 200, 10, 17}, .k = 7},
       {{ids.data(), 3, 7, 9}, {scores.data(), 3, 7, 8}, count.data(), status.data()}, {});
  const TopKResult expected = reference(tight);
  for (int64_t b = 0; b < 3; ++b) {
    for (int64_t i = 0; i < 7; ++i) {
      EXPECT_EQ(ids[b * 9 + i], expected.ids[b * 7 + i]);
      EXPECT_EQ(scores[b * 8 + i], expected.scores[b * 7 + i]);
    }
    EXPECT_EQ(ids[b * 9 + 7], -5) << "wrote beyond the row";
    EXPECT_EQ(scores[b * 8 + 7], -5.0F);
  }
}

TEST(CanonicalScore, FollowsTheFixedTree) {
  // 2^53 + 1 - 2^53 over lanes 0, 4, 2: (0 + 4) loses the 1, any other order keeps it.
  const std::vector<float> ones(8, 1.0F);
  std::vector<float> x(8, 0.0F);
  x[0] = 9007199254740992.0F;
  x[4] = 1.0F;
  x[2] = -9007199254740992.0F;
  EXPECT_EQ(canonical_score(x.data(), ones.data(), 8), 0.0F);
  std::swap(x[4], x[1]);
  EXPECT_EQ(canonical_score(x.data(), ones.data(), 8), 1.0F);
}

TEST(CanonicalScore, HasNoNegativeZero) {
  const float a = -1e-30F;
  const float b = 1e-30F;
  EXPECT_FALSE(std::signbit(canonical_score(&a, &b, 1)));
}

TEST(ScorePairs, ScoresListedItems) {
  const TopKCase c = gaussian_case(2, 3, 50, 21, 1);
  const std::vector<int64_t> ids = {0, 49, -1, 7, 7, 7, -1, -1, 20};
  std::vector<float> out(9, -5.0F);
  score_pairs({c.query_data.data(), 3, 21}, {c.item_data.data(), 50, 21}, {ids.data(), 3, 3},
              {out.data(), 3, 3}, {.threads = 2});
  for (int i = 0; i < 9; ++i) {
    const float expected =
        ids[i] < 0 ? -std::numeric_limits<float>::infinity()
                   : reference_score(&c.query_data[i / 3 * 21], &c.item_data[ids[i] * 21], 21);
    EXPECT_EQ(bits({out[i]}), bits({expected})) << i;
  }
}

}  // namespace
}  // namespace hypertower
