#include "trainer/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace hypertower {
namespace {

constexpr int64_t kLength = 8;

// People of 1 to 60 events, some at the same moment, of all parts; the item tells the event.
Events random_events(int64_t people, uint32_t seed) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  std::vector<std::pair<double, int64_t>> rows;  // order, user
  for (int64_t u = 0; u < people; ++u) {
    const int64_t n = 1 + below(60);
    for (int64_t i = 0; i < n; ++i) rows.emplace_back(static_cast<double>(below(100)), u);
  }
  std::sort(rows.begin(), rows.end());
  Events e;
  for (const auto& [order, user] : rows) {
    e.user.push_back(user);
    e.item.push_back(e.size() - 1);
    e.order.push_back(order);
    const int64_t draw = below(10);
    e.part.push_back(draw < 7 ? Part::kTrain : draw < 9 ? Part::kValid : Part::kTest);
    e.weight.push_back(below(5) == 0 ? 0.0F : 1.0F);
    e.history_weight.push_back(1.0F);
    e.kind.push_back(static_cast<int32_t>(below(3)));
  }
  return e;
}

std::vector<int64_t> targets_of(const Events& events, Part last) {
  std::vector<int64_t> out;
  for (size_t e = 0; e < events.item.size(); ++e) {
    if (events.part[e] <= last && events.weight[e] > 0) out.push_back(static_cast<int64_t>(e));
  }
  return out;
}

std::vector<TrainBatch> epoch_of(Batches& batches, int64_t epoch) {
  std::vector<TrainBatch> out;
  const int64_t n = batches.begin_epoch(epoch);
  for (int64_t b = 0; b < n; ++b) out.push_back(batches.batch(b));
  return out;
}

// Every target comes once, and what predicts it is what came strictly before it: the whole history,
// or where it is longer than the model reads, at least a lead and at most what it reads.
void check_windows(const Events& events, const Histories& histories,
                   const std::vector<int64_t>& targets, Part last,
                   const std::vector<TrainBatch>& batches) {
  std::vector<int64_t> seen;
  for (const TrainBatch& b : batches) {
    ASSERT_FALSE(b.targets.empty());
    ASSERT_EQ(b.tokens.size(), b.targets.size());
    ASSERT_EQ(b.past.rows(), static_cast<int64_t>(b.people.size()));
    ASSERT_EQ(b.past.kinds.size(), b.past.items.size());
    std::map<int64_t, int64_t> history_of;  // by token
    for (int64_t r = 0; r < b.past.rows(); ++r) {
      const auto i = static_cast<size_t>(r);
      ASSERT_LE(b.past.offsets[i + 1] - b.past.offsets[i], kLength);
      for (int64_t j = b.past.offsets[i]; j <= b.past.offsets[i + 1]; ++j) history_of[j + r] = r;
    }
    for (size_t t = 0; t < b.targets.size(); ++t) {
      const int64_t e = b.targets[t];
      seen.push_back(e);
      ASSERT_TRUE(history_of.contains(b.tokens[t]));
      const int64_t r = history_of[b.tokens[t]];
      const auto person = static_cast<size_t>(b.people[static_cast<size_t>(r)]);
      ASSERT_EQ(events.user[person], events.user[static_cast<size_t>(e)]);
      const int64_t first = b.past.offsets[static_cast<size_t>(r)];
      const int64_t count = b.tokens[t] - first - r;
      const std::vector<int64_t> read(b.past.items.begin() + first,
                                      b.past.items.begin() + first + count);
      std::vector<int64_t> before;  // items are event rows
      int64_t place = 0;            // of the target among the events of its person
      for (const int64_t other : histories.events_of(events.user[static_cast<size_t>(e)])) {
        const auto o = static_cast<size_t>(other);
        if (events.part[o] > last) continue;
        place += other < e ? 1 : 0;
        if (events.order[o] < events.order[static_cast<size_t>(e)]) before.push_back(other);
      }
      ASSERT_LE(read.size(), before.size());
      ASSERT_TRUE(std::equal(read.rbegin(), read.rend(), before.rbegin()));
      if (place <= kLength / 4) {
        ASSERT_EQ(read, before);
      }
    }
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, targets);
}

TEST(WindowBatches, PredictEveryTargetOnceFromWhatCameBeforeIt) {
  for (uint32_t seed = 0; seed < 8; ++seed) {
    const Events events = random_events(30, seed);
    const Histories histories(events, 30, kLength, {2, 0, 1});
    for (const Part last : {Part::kTrain, Part::kValid}) {
      const std::vector<int64_t> targets = targets_of(events, last);
      TrainingConfig config;
      config.batch_size = 40;
      const auto batches = window_batches(events, histories, 30, targets, last, config);
      for (int64_t epoch = 1; epoch <= 3; ++epoch) {
        check_windows(events, histories, targets, last, epoch_of(*batches, epoch));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(WindowBatches, FillRectanglesUpToTheBudget) {
  const Events events = random_events(200, 3);
  const Histories histories(events, 200, kLength, {0, 0, 0});
  const std::vector<int64_t> targets = targets_of(events, Part::kTrain);
  TrainingConfig config;
  config.batch_size = 64;
  const auto batches = window_batches(events, histories, 200, targets, Part::kTrain, config);
  int64_t cells = 0, tokens = 0;
  for (const TrainBatch& b : epoch_of(*batches, 1)) {
    int64_t longest = 0;
    for (size_t r = 0; r + 1 < b.past.offsets.size(); ++r) {
      longest = std::max(longest, b.past.offsets[r + 1] - b.past.offsets[r] + 1);
    }
    EXPECT_LE(longest * b.past.rows(), 64);
    cells += longest * b.past.rows();
    tokens += b.past.offsets.back() + b.past.rows();
  }
  EXPECT_LT(static_cast<double>(cells), 1.15 * static_cast<double>(tokens));
}

TEST(WindowBatches, CutElsewhereEachEpochButTheSameForASeed) {
  const Events events = random_events(30, 5);
  const Histories histories(events, 30, kLength, {0, 0, 0});
  const std::vector<int64_t> targets = targets_of(events, Part::kTrain);
  TrainingConfig config;
  const auto tokens = [&](int64_t seed, int64_t epoch) {
    config.seed = seed;
    const auto batches = window_batches(events, histories, 30, targets, Part::kTrain, config);
    std::vector<int64_t> out;
    for (const TrainBatch& b : epoch_of(*batches, epoch)) {
      out.insert(out.end(), b.past.items.begin(), b.past.items.end());
    }
    return out;
  };
  EXPECT_EQ(tokens(1, 1), tokens(1, 1));
  EXPECT_NE(tokens(1, 1), tokens(1, 2));
  EXPECT_NE(tokens(1, 1), tokens(2, 1));
}

TEST(PeopleBatches, PredictAllOfAPersonFromAPartOfHer) {
  const Events events = random_events(40, 2);
  const Histories histories(events, 40, kLength, {0, 0, 0});
  const std::vector<int64_t> targets = targets_of(events, Part::kValid);
  TrainingConfig config;
  config.batch_size = 16;
  const auto batches = people_batches(events, histories, 40, targets, Part::kValid, config);
  std::vector<int64_t> seen;
  int64_t read = 0, readable = 0;
  for (const TrainBatch& b : epoch_of(*batches, 1)) {
    EXPECT_LE(b.people.size(), 16U);
    ASSERT_EQ(b.target_offsets.size(), b.people.size() + 1);
    ASSERT_EQ(b.past.rows(), static_cast<int64_t>(b.people.size()));
    ASSERT_EQ(b.past.ages.size(), b.past.items.size());
    for (size_t r = 0; r < b.people.size(); ++r) {
      const int64_t user = events.user[static_cast<size_t>(b.people[r])];
      ASSERT_LT(b.target_offsets[r], b.target_offsets[r + 1]);
      for (int64_t t = b.target_offsets[r]; t < b.target_offsets[r + 1]; ++t) {
        const int64_t e = b.targets[static_cast<size_t>(t)];
        EXPECT_EQ(events.user[static_cast<size_t>(e)], user);
        seen.push_back(e);
      }
      int64_t own = 0;
      for (const int64_t e : histories.events_of(user)) {
        own += events.part[static_cast<size_t>(e)] <= Part::kValid ? 1 : 0;
      }
      const int64_t kept = b.past.offsets[r + 1] - b.past.offsets[r];
      EXPECT_GE(kept, own > 1 ? 1 : 0);
      for (int64_t j = b.past.offsets[r]; j < b.past.offsets[r + 1]; ++j) {
        const auto e = static_cast<size_t>(b.past.items[static_cast<size_t>(j)]);
        EXPECT_EQ(events.user[e], user);
        EXPECT_LE(events.part[e], Part::kValid);
      }
      read += kept;
      readable += std::min(own, 2 * kLength);
    }
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, targets);
  EXPECT_NEAR(static_cast<double>(read) / static_cast<double>(readable), 0.5, 0.1);
}

TEST(SingleBatches, GiveEachTargetOnceWithItsOwnHistory) {
  const Events events = random_events(30, 1);
  const Histories histories(events, 30, kLength, {0, 0, 0});
  const std::vector<int64_t> targets = targets_of(events, Part::kTrain);
  TrainingConfig config;
  config.batch_size = 32;
  const auto batches = single_batches(histories, targets, config);
  std::vector<int64_t> seen;
  for (const TrainBatch& b : epoch_of(*batches, 2)) {
    EXPECT_LE(b.targets.size(), 32U);
    EXPECT_EQ(b.people, b.targets);
    EXPECT_TRUE(b.tokens.empty());
    EXPECT_EQ(b.past.items, histories.of(b.targets).items);
    seen.insert(seen.end(), b.targets.begin(), b.targets.end());
  }
  EXPECT_NE(seen, targets);
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, targets);
}

}  // namespace
}  // namespace hypertower
