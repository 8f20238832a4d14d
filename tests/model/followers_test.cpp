#include "model/followers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "model/recommender.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"

namespace hypertower {
namespace {

using Pairs = std::vector<std::pair<int64_t, float>>;

// 0 is followed by 1 and 2, 1 by 2; 2 by nothing.
Followers small() {
  return {{0, 2, 3, 3}, {1, 2, 2}, {0.5F, 0.25F, 0.125F}, 10.0F};
}

TEST(Followers, AreThoseOfTheLatestItemsTheOlderTheFainter) {
  const std::vector<float> weights(2, 1.0F);
  const Pairs found = small().of(std::vector<int64_t>{0, 1}, weights);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].first, 1);
  EXPECT_FLOAT_EQ(found[0].second, 0.36F * 0.5F);
  EXPECT_EQ(found[1].first, 2);
  EXPECT_FLOAT_EQ(found[1].second, 0.6F * 0.125F + 0.36F * 0.25F);
  EXPECT_FLOAT_EQ(small().delta(0.3F), std::log(4.0F));
}

TEST(Followers, LookAtFiveItemsWithoutWeightlessOnesAndNewOnes) {
  const std::vector<int64_t> six = {1, 0, 0, 0, 0, 0};
  EXPECT_EQ(small().of(six, std::vector<float>(6, 1.0F)),
            small().of(std::span(six).last(5), std::vector<float>(5, 1.0F)));
  const std::vector<int64_t> history = {0, 1, 7};
  EXPECT_EQ(small().of(history, std::vector<float>{1.0F, 0.0F, 0.0F}),
            small().of(std::vector<int64_t>{0}, std::vector<float>{1.0F}));
  // Item 7 came after training: it takes a place and has no followers.
  EXPECT_FLOAT_EQ(small().of(std::vector<int64_t>{1, 7}, std::vector<float>(2, 1.0F))[0].second,
                  0.36F * 0.125F);
  EXPECT_TRUE(small().of({}, {}).empty());
}

TEST(Followers, RefuseWhatNoTableHas) {
  EXPECT_NO_THROW(check_followers(small(), 3));
  EXPECT_NO_THROW(check_followers({}, 0));
  const auto problem = [](const auto& change) {
    Followers f = small();
    change(f);
    return caught([&] { check_followers(f, 3); }).message;
  };
  EXPECT_NE(problem([](Followers& f) { f.offsets.back() = 4; }).find("do not fit"),
            std::string::npos);
  EXPECT_NE(problem([](Followers& f) { f.offsets[1] = 9; }).find("do not fit"), std::string::npos);
  EXPECT_NE(problem([](Followers& f) { f.items[1] = 3; }).find("expected 0 to 2"),
            std::string::npos);
  EXPECT_NE(problem([](Followers& f) { f.items[1] = -1; }).find("expected 0 to 2"),
            std::string::npos);
  EXPECT_NE(problem([](Followers& f) { f.shares[0] = 1.5F; }).find("share"), std::string::npos);
  EXPECT_NE(problem([](Followers& f) { f.strength = -1; }).find("strength"), std::string::npos);
}

// A random table over the items of a random model.
ModelData model_with_followers() {
  ModelData model = random_model();
  const auto n = static_cast<int32_t>(model.catalogue.ids.size());
  std::mt19937 random(5);
  for (int32_t j = 0; j < n; ++j) {
    for (int i = 0; i < 4; ++i) {
      model.memory.followers.items.push_back(
          static_cast<int32_t>(random() % static_cast<uint32_t>(n)));
      model.memory.followers.shares.push_back(static_cast<float>(random() % 100) / 400.0F);
    }
    model.memory.followers.offsets.push_back(
        static_cast<int64_t>(model.memory.followers.items.size()));
  }
  model.memory.followers.strength = 50.0F;
  return model;
}

TEST(Followers, ARecommendationIsTheTopOfDotProductsPlusDeltas) {
  const ModelData with = model_with_followers();
  ModelData without = with;
  without.memory.followers = {};
  const Recommender rec(with), plain(without);
  Request request;
  request.time = 1e9;
  request.history = {{"i3", "", {}, {}}, {"i1", "", {}, {}}, {"i4", "", {}, {}}};
  request.exclude = {"i2"};
  const std::vector<std::vector<std::string>> all = {rec.index().catalogue().ids};
  const std::vector<float> dots = plain.score({&request, 1}, all, nullptr, {});
  const std::vector<float> scores = rec.score({&request, 1}, all, nullptr, {});
  std::vector<int64_t> history;
  for (const HistoryEvent& event : *request.history) history.push_back(rec.index().row(event.item));
  std::map<int64_t, float> deltas;
  for (const auto& [item, sum] : with.memory.followers.of(history, std::vector<float>(3, 1.0F))) {
    deltas[item] = with.memory.followers.delta(sum);
  }
  ASSERT_FALSE(deltas.empty());
  for (size_t i = 0; i < dots.size(); ++i) {
    EXPECT_EQ(scores[i], dots[i] + deltas[static_cast<int64_t>(i)]) << i;
  }

  RecommendOptions options;
  options.k = static_cast<int64_t>(dots.size());
  options.exclude_seen = true;
  const Answer answer = rec.recommend({&request, 1}, options, nullptr, {}).front();
  EXPECT_EQ(answer.hits.size(), dots.size() - 4);
  EXPECT_EQ(answer.eligible, static_cast<int64_t>(dots.size()) - 4);
  for (size_t h = 0; h < answer.hits.size(); ++h) {
    const Hit& hit = answer.hits[h];
    EXPECT_EQ(hit.score, scores[static_cast<size_t>(hit.row)]);
    EXPECT_LE(hit.score, answer.hits[h == 0 ? 0 : h - 1].score);
  }
}

}  // namespace
}  // namespace hypertower
