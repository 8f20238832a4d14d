#include "trainer/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace hypertower {
namespace {

TEST(CandidateSampler, ListsEachItemOnceAndFindsTheTargets) {
  const CandidateSampler sampler(std::vector<float>(50, 1.0F), 100, 7);
  const std::vector<int64_t> targets = {3, 49, 3, 0};
  const Candidates c = sampler.draw(targets, 0);
  EXPECT_TRUE(std::is_sorted(c.items.begin(), c.items.end()));
  EXPECT_EQ(std::adjacent_find(c.items.begin(), c.items.end()), c.items.end());
  for (size_t row = 0; row < targets.size(); ++row) {
    EXPECT_EQ(c.items[static_cast<size_t>(c.target[row])], targets[row]);
  }
}

TEST(CandidateSampler, ListsWhatIsCertainWithoutCorrection) {
  const CandidateSampler sampler(std::vector<float>(50, 1.0F), 5, 7);
  const std::vector<int64_t> targets = {3, 49}, certain = {3, 17};
  const Candidates c = sampler.draw(targets, 0, certain);
  EXPECT_EQ(std::adjacent_find(c.items.begin(), c.items.end()), c.items.end());
  for (const int64_t item : certain) {
    const auto at = std::lower_bound(c.items.begin(), c.items.end(), item) - c.items.begin();
    EXPECT_EQ(c.items[static_cast<size_t>(at)], item);
    EXPECT_EQ(c.logq[static_cast<size_t>(at)], 0.0F);
  }
  EXPECT_LT(c.logq[static_cast<size_t>(c.target[1])], 0.0F);
}

TEST(CandidateSampler, RepeatsUnderASeedAndDiffersByStep) {
  const CandidateSampler a(std::vector<float>(1000, 1.0F), 64, 7);
  const CandidateSampler b(std::vector<float>(1000, 1.0F), 64, 7);
  const std::vector<int64_t> targets = {1};
  EXPECT_EQ(a.draw(targets, 5).items, b.draw(targets, 5).items);
  EXPECT_NE(a.draw(targets, 5).items, a.draw(targets, 6).items);
}

// logQ against counting: how often an item is in the list when the batch is drawn by its counts.
TEST(CandidateSampler, LogQIsTheInclusionProbability) {
  const std::vector<float> counts = {1, 2, 4, 8, 16, 32};
  constexpr int kTrials = 20000;
  constexpr int kBatch = 8;
  const CandidateSampler sampler(counts, 3, 11);
  const CounterRandom random(5, 9);
  std::vector<double> included(6, 0.0);
  std::vector<float> logq(6, 0.0F);
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<int64_t> targets;
    for (int i = 0; i < kBatch; ++i) {
      int64_t draw = random.below(static_cast<uint64_t>(trial * kBatch + i), 63);
      int64_t item = 0;
      while (draw >= counts[static_cast<size_t>(item)]) {
        draw -= static_cast<int64_t>(counts[static_cast<size_t>(item)]);
        ++item;
      }
      targets.push_back(item);
    }
    const Candidates c = sampler.draw(targets, trial);
    for (size_t i = 0; i < c.items.size(); ++i) {
      included[static_cast<size_t>(c.items[i])] += 1;
      logq[static_cast<size_t>(c.items[i])] = c.logq[i];
    }
  }
  // The formula takes the batch as a Poisson draw; a batch of eight is within 0.03 of that.
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(std::exp(logq[i]), included[i] / kTrials, 0.03) << "item " << i;
  }
}

TEST(CounterRandom, ShufflesEveryPlaceEvenly) {
  std::vector<int> first(5, 0);
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    std::vector<int64_t> values = {0, 1, 2, 3, 4};
    shuffle(values, CounterRandom(seed, 1));
    ++first[static_cast<size_t>(values[0])];
    std::sort(values.begin(), values.end());
    EXPECT_EQ(values, (std::vector<int64_t>{0, 1, 2, 3, 4}));
  }
  for (const int count : first) EXPECT_NEAR(count, 1000, 120);
}

}  // namespace
}  // namespace hypertower
