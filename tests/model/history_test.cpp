#include "model/history.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace hypertower {
namespace {

using Items = std::vector<std::string>;

HistoryEvent event(const std::string& item, std::optional<double> time = {}) {
  return {item, "", time, {}};
}

Items items(std::span<const HistoryEvent> history) {
  Items out;
  for (const HistoryEvent& e : history) out.push_back(e.item);
  return out;
}

Items ordered(std::vector<HistoryEvent> history) {
  order_history(history);
  return items(history);
}

TEST(History, IsOrderedByTime) {
  EXPECT_EQ(ordered({event("c", 3), event("a", -1), event("b", 2.5)}), (Items{"a", "b", "c"}));
  EXPECT_EQ(ordered({}), Items{});
}

TEST(History, EqualTimesKeepTheOrderOfArrival) {
  EXPECT_EQ(ordered({event("b", 2), event("z", 1), event("c", 2), event("a", 2)}),
            (Items{"z", "b", "c", "a"}));
}

TEST(History, WithoutTimesKeepsTheOrderOfArrival) {
  EXPECT_EQ(ordered({event("c"), event("a"), event("b")}), (Items{"c", "a", "b"}));
}

TEST(History, AnEventWithoutATimeHappensWhenItArrives) {
  EXPECT_EQ(ordered({event("b", 5), event("now"), event("a", 2), event("c", 7)}),
            (Items{"a", "b", "now", "c"}));
  EXPECT_EQ(ordered({event("first"), event("b", 2), event("a", 1)}), (Items{"first", "a", "b"}));
}

TEST(History, OrderingTwiceChangesNothing) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<HistoryEvent> history;
    for (int i = 0; i < 20; ++i) {
      history.push_back(event(std::to_string(i)));
      if (random() % 3 != 0) history.back().time = static_cast<double>(random() % 8);
    }
    order_history(history);
    EXPECT_EQ(ordered(history), items(history));
  }
}

TEST(History, BeforeATimeIsStrictly) {
  std::vector<HistoryEvent> history = {event("first"), event("a", 1), event("b", 2), event("then"),
                                       event("c", 3)};
  EXPECT_EQ(items(history_before(history, 2)), (Items{"first", "a"}));
  EXPECT_EQ(items(history_before(history, 2.5)), (Items{"first", "a", "b", "then"}));
  EXPECT_EQ(items(history_before(history, 0)), Items{"first"});
  EXPECT_EQ(history_before(history, 4).size(), 5U);
  EXPECT_EQ(history_before(history, std::nullopt).size(), 5U);
}

}  // namespace
}  // namespace hypertower
