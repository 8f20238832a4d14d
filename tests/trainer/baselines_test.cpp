#include "trainer/baselines.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

namespace hypertower {
namespace {

// 12 users, 9 items; a quarter of the events is held out.
Dataset random_data(unsigned seed) {
  std::mt19937 random(seed);
  Dataset data;
  for (int u = 0; u < 12; ++u) data.users.add("u" + std::to_string(u));
  for (int i = 0; i < 9; ++i) data.items.add("i" + std::to_string(i));
  for (int n = 0; n < 160; ++n) {
    data.events.user.push_back(static_cast<int64_t>(random() % 12));
    data.events.item.push_back(static_cast<int64_t>(random() % (1 + random() % 9)));
    data.events.order.push_back(n);
    data.events.weight.push_back(1.0F);
    data.events.history_weight.push_back(1.0F);
    data.events.part.push_back(n < 120 ? Part::kTrain : Part::kTest);
  }
  return data;
}

// The three scores from their definitions, event by event, item by item.
double naive_score(const Dataset& d, const std::string& name, int64_t event, int64_t item) {
  const Events& e = d.events;
  std::vector<std::set<int64_t>> users(9);
  double popular = 0, recent = 0;
  for (size_t n = 0; n < 120; ++n) {
    users[static_cast<size_t>(e.item[n])].insert(e.user[n]);
    popular += e.item[n] == item ? 1 : 0;
    recent += e.item[n] == item && n >= 108 ? 1 : 0;
  }
  if (name == "popularity") return popular;
  if (name == "recent_popularity") return recent;
  std::set<int64_t> seen;
  for (int64_t n = 0; n < event; ++n) {
    if (e.user[static_cast<size_t>(n)] == e.user[static_cast<size_t>(event)]) {
      seen.insert(e.item[static_cast<size_t>(n)]);
    }
  }
  double score = 0;
  for (const int64_t j : seen) {
    if (j == item) continue;
    double both = 0;
    const auto& a = users[static_cast<size_t>(item)];
    const auto& b = users[static_cast<size_t>(j)];
    for (const int64_t u : a) both += b.contains(u) ? 1 : 0;
    score += both / (std::sqrt(static_cast<double>(a.size() * b.size())) + 20);
  }
  return score;
}

TEST(Baselines, EqualTheirDefinitions) {
  const Dataset data = random_data(3);
  const Histories histories(data.events, 12, 50);
  const auto baselines = fit_baselines(data, histories, Part::kTrain, false);
  ASSERT_EQ(baselines.size(), 3U);
  for (const auto& baseline : baselines) {
    std::vector<float> scores(9);
    for (const int64_t event : {120, 131, 150, 159}) {
      baseline->score(event, scores);
      for (int64_t item = 0; item < 9; ++item) {
        EXPECT_NEAR(scores[static_cast<size_t>(item)],
                    naive_score(data, baseline->name(), event, item), 2e-6)
            << baseline->name() << ", event " << event << ", item " << item;
      }
    }
  }
}

TEST(Baselines, RepeatsMakeAnItemItsOwnNeighbour) {
  const Dataset data = random_data(4);
  const Histories histories(data.events, 12, 50);
  const auto without = fit_baselines(data, histories, Part::kTrain, false);
  const auto with = fit_baselines(data, histories, Part::kTrain, true);
  std::vector<float> a(9), b(9);
  without[2]->score(159, a);
  with[2]->score(159, b);
  for (size_t i = 0; i < 9; ++i) {
    if (histories.has_seen(159, static_cast<int64_t>(i))) {
      EXPECT_GT(b[i], a[i]);
    } else {
      EXPECT_EQ(b[i], a[i]);
    }
  }
}

TEST(Baselines, MetricsDoNotDependOnThreads) {
  const Dataset data = random_data(5);
  const Histories histories(data.events, 12, 50);
  const auto baselines = fit_baselines(data, histories, Part::kTrain, false);
  std::vector<int64_t> events;
  for (int64_t e = 120; e < 160; ++e) events.push_back(e);
  const std::vector<int64_t> lengths = {1, 3};
  for (const bool exclude : {false, true}) {
    const auto one = evaluate_baseline(*baselines[2], data, histories, events, lengths, exclude, 1);
    const auto four =
        evaluate_baseline(*baselines[2], data, histories, events, lengths, exclude, 4);
    EXPECT_EQ(one, four);
  }
}

}  // namespace
}  // namespace hypertower
