#include "trainer/count_followers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace hypertower {
namespace {

Events random_events(uint32_t seed, int64_t count, int64_t users, int64_t items) {
  std::mt19937 random(seed);
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint32_t>(n));
  };
  Events e;
  for (int64_t i = 0; i < count; ++i) {
    e.user.push_back(below(users));
    e.item.push_back(below(items));
    e.order.push_back(static_cast<double>(i / 3));  // some at the same moment
    e.weight.push_back(1.0F);
    e.history_weight.push_back(below(10) == 0 ? 0.0F : 1.0F);
    e.part.push_back(static_cast<Part>(below(3)));
  }
  return e;
}

// By the definition in the header, from all pairs of a person's events.
std::map<std::pair<int64_t, int64_t>, double> counted(const Events& e, int64_t users, Part last) {
  std::map<std::pair<int64_t, int64_t>, double> c;
  for (int64_t u = 0; u < users; ++u) {
    std::vector<size_t> own;
    for (size_t i = 0; i < e.user.size(); ++i) {
      if (e.user[i] == u && e.part[i] <= last && e.history_weight[i] > 0) own.push_back(i);
    }
    for (size_t a = 0; a < own.size(); ++a) {
      for (size_t b = a + 1; b < own.size() && b - a <= 3; ++b) {
        if (e.order[own[a]] == e.order[own[b]] || e.item[own[a]] == e.item[own[b]]) continue;
        c[{e.item[own[a]], e.item[own[b]]}] +=
            static_cast<double>(1.0F / static_cast<float>(b - a));
      }
    }
  }
  return c;
}

TEST(CountFollowers, AreTheSharesOfTheirDefinition) {
  for (const Part last : {Part::kTrain, Part::kValid}) {
    const Events e = random_events(3, 2000, 12, 20);
    const Histories histories(e, 12, 50);
    const Followers f = count_followers(e, histories, 12, 20, last);
    EXPECT_NO_THROW(check_followers(f, 20));
    EXPECT_FALSE(f.on());
    const auto expected = counted(e, 12, last);
    size_t found = 0;
    for (size_t j = 0; j < 20; ++j) {
      double total = 3.0;
      for (int64_t i = 0; i < 20; ++i) {
        const auto at = expected.find({static_cast<int64_t>(j), i});
        if (at != expected.end()) total += at->second;
      }
      for (int64_t at = f.offsets[j]; at < f.offsets[j + 1]; ++at) {
        const auto n = static_cast<size_t>(at);
        EXPECT_NEAR(f.shares[n], expected.at({static_cast<int64_t>(j), f.items[n]}) / total, 1e-6);
        EXPECT_LE(f.shares[n], f.shares[at > f.offsets[j] ? n - 1 : n]);
        ++found;
      }
    }
    EXPECT_EQ(found, expected.size());
  }
}

TEST(CountFollowers, KeepsTheMostFrequent) {
  const Events e = random_events(4, 20000, 5, 100);
  const Histories histories(e, 5, 50);
  const Followers f = count_followers(e, histories, 5, 100, Part::kTest);
  const auto expected = counted(e, 5, Part::kTest);
  for (size_t j = 0; j < 100; ++j) {
    ASSERT_EQ(f.offsets[j + 1] - f.offsets[j], Followers::kPerItem);
    double least = 1e9;
    std::map<int64_t, bool> kept;
    for (int64_t at = f.offsets[j]; at < f.offsets[j + 1]; ++at) {
      const int64_t i = f.items[static_cast<size_t>(at)];
      kept[i] = true;
      least = std::min(least, expected.at({static_cast<int64_t>(j), i}));
    }
    for (const auto& [pair, count] : expected) {
      if (pair.first == static_cast<int64_t>(j) && !kept.contains(pair.second)) {
        EXPECT_LE(count, least + 1e-4);
      }
    }
  }
}

}  // namespace
}  // namespace hypertower
