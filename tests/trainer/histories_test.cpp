#include "trainer/histories.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace hypertower {
namespace {

Events make_events(const std::vector<int64_t>& user, const std::vector<int64_t>& item,
                   const std::vector<double>& order) {
  Events e;
  e.user = user;
  e.item = item;
  e.order = order;
  e.weight.assign(user.size(), 1.0F);
  e.history_weight.assign(user.size(), 1.0F);
  e.part.assign(user.size(), Part::kTrain);
  return e;
}

TEST(Histories, OldestFirstWithAgesCutToLength) {
  const Events e = make_events({0, 1, 0, 0, 0}, {10, 20, 11, 12, 13}, {1, 2, 3, 4, 5});
  const Histories h(e, 2, 2);
  const HistoryRows rows = h.of(std::vector<int64_t>{4, 0, 2});
  EXPECT_EQ(rows.items, (std::vector<int64_t>{11, 12, 10}));
  EXPECT_EQ(rows.ages, (std::vector<int64_t>{1, 0, 0}));
  EXPECT_EQ(rows.offsets, (std::vector<int64_t>{0, 2, 2, 3}));
}

TEST(Histories, SimultaneousEventsDoNotSeeEachOther) {
  const Events e = make_events({0, 0, 0, 0}, {1, 2, 3, 4}, {1, 2, 2, 3});
  const Histories h(e, 1, 10);
  EXPECT_EQ(h.of(std::vector<int64_t>{1}).items, std::vector<int64_t>{1});
  EXPECT_EQ(h.of(std::vector<int64_t>{2}).items, std::vector<int64_t>{1});
  EXPECT_EQ(h.of(std::vector<int64_t>{3}).items, (std::vector<int64_t>{1, 2, 3}));
}

TEST(Histories, SeenIsDistinctAndNotCut) {
  const Events e = make_events({0, 0, 0, 0}, {5, 3, 5, 9}, {1, 2, 3, 4});
  const Histories h(e, 1, 1);
  std::vector<int64_t> seen;
  h.seen(3, seen);
  EXPECT_EQ(seen, (std::vector<int64_t>{3, 5}));
  EXPECT_TRUE(h.has_seen(2, 5));
  EXPECT_FALSE(h.has_seen(0, 5));
}

TEST(Histories, RepeatShareCountsTrainingEventsOnly) {
  Events e = make_events({0, 0, 0, 0}, {5, 5, 6, 5}, {1, 2, 3, 4});
  e.part[3] = Part::kTest;
  EXPECT_DOUBLE_EQ(repeat_share(e, Histories(e, 1, 10)), 1.0 / 3.0);
}

// The leakage property, by brute force: exactly the user's own events of strictly smaller order and
// of no later part, the latest first.
TEST(Histories, NeverReadTheEventItselfOrLaterOnes) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<int64_t> user, item;
    std::vector<double> order;
    for (int i = 0; i < 200; ++i) {
      user.push_back(static_cast<int64_t>(random() % 7));
      item.push_back(static_cast<int64_t>(random() % 30));
      order.push_back(static_cast<double>(random() % 60));
    }
    std::sort(order.begin(), order.end());
    Events e = make_events(user, item, order);
    for (auto& part : e.part) part = static_cast<Part>(random() % 3);
    const Histories h(e, 7, 5);
    for (int64_t row = 0; row < 200; ++row) {
      const auto r = static_cast<size_t>(row);
      std::vector<int64_t> expected;
      for (size_t j = 0; j < 200; ++j) {
        const bool before = order[j] < order[r] && e.part[j] <= e.part[r];
        if (before && user[j] == user[r]) expected.push_back(item[j]);
      }
      if (expected.size() > 5) expected.erase(expected.begin(), expected.end() - 5);
      EXPECT_EQ(h.of(std::vector<int64_t>{row}).items, expected) << "row " << row;
    }
  }
}

}  // namespace
}  // namespace hypertower
