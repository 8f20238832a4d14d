#include "trainer/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hypertower {
namespace {

TEST(RankMetrics, EqualHandComputedValues) {
  RankMetrics m({1, 3}, 10);
  m.add(1, std::vector<int64_t>{4, 5, 6});
  m.add(3, std::vector<int64_t>{4, 1, 7});
  m.add(0, std::vector<int64_t>{2, 4, 5});
  m.add(4, std::vector<int64_t>{});
  const auto j = m.to_json();
  EXPECT_EQ(j["events"], 4);
  EXPECT_DOUBLE_EQ(j["recall@1"], 0.25);
  EXPECT_DOUBLE_EQ(j["recall@3"], 0.5);
  EXPECT_DOUBLE_EQ(j["hit_rate@3"], 0.5);
  EXPECT_DOUBLE_EQ(j["ndcg@1"], 0.25);
  EXPECT_DOUBLE_EQ(j["ndcg@3"], (1 + 0.5) / 4);
  EXPECT_DOUBLE_EQ(j["mrr@3"], (1 + 1.0 / 3) / 4);
  EXPECT_DOUBLE_EQ(j["coverage@1"], 0.2);  // 4 and 2
  EXPECT_DOUBLE_EQ(j["coverage@3"], 0.6);  // 4 5 6 1 7 2
}

TEST(RankMetrics, AreZeroWithoutEvents) {
  const auto j = RankMetrics({10}, 5).to_json();
  EXPECT_EQ(j["ndcg@10"], 0.0);
  EXPECT_EQ(j["coverage@10"], 0.0);
}

TEST(RankOf, GivesTiesTheirMeanRank) {
  const std::vector<float> scores = {3, 1, 1, 1, 5};
  std::vector<int64_t> top;
  EXPECT_DOUBLE_EQ(rank_of(scores, 4, {}, 3, top), 1);
  EXPECT_EQ(top, (std::vector<int64_t>{4, 0, 1}));
  EXPECT_DOUBLE_EQ(rank_of(scores, 2, {}, 3, top), 4);  // of ranks 3, 4, 5
  EXPECT_DOUBLE_EQ(rank_of(scores, 3, {}, 3, top), 4);
}

TEST(RankOf, LeavesExcludedItemsOut) {
  const std::vector<float> scores = {3, 1, 1, 1, 5};
  std::vector<int64_t> top;
  EXPECT_DOUBLE_EQ(rank_of(scores, 2, std::vector<int64_t>{1, 4}, 9, top), 2.5);
  EXPECT_EQ(top, (std::vector<int64_t>{0, 2, 3}));
  EXPECT_DOUBLE_EQ(rank_of(scores, 4, std::vector<int64_t>{4}, 2, top), 0);
}

}  // namespace
}  // namespace hypertower
