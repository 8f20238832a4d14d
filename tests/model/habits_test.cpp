#include "model/habits.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "model/recommender.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"

namespace hypertower {
namespace {

// Two id features; rows 0, 1, 2 are {3 | 1 2}, {3 | }, {4 | 1 2}.
Batch three_contexts() {
  Batch batch;
  batch.rows = 3;
  batch.columns.resize(2);
  batch.columns[0].values = {3, 3, 4};
  batch.columns[0].offsets = {0, 1, 2, 3};
  batch.columns[1].values = {1, 2, 1, 2};
  batch.columns[1].offsets = {0, 2, 2, 4};
  return batch;
}

TEST(Habits, FieldsAreAlikeWhenBothGiveTheSameValues) {
  const Batch b = three_contexts();
  EXPECT_TRUE(alike(b.columns[0], 0, b.columns[0], 1));
  EXPECT_FALSE(alike(b.columns[0], 0, b.columns[0], 2));
  EXPECT_TRUE(alike(b.columns[1], 0, b.columns[1], 2));
  EXPECT_FALSE(alike(b.columns[1], 0, b.columns[1], 1));
  EXPECT_FALSE(alike(b.columns[1], 1, b.columns[1], 1));  // neither gives it
}

TEST(Habits, AreTheirFormula) {
  const Batch b = three_contexts();
  const Habits habits{2.0F, 3.0F, 0.5F, {1.0F, 0.25F}};
  // Events with items 9, 4, 9 in contexts 2, 1, 0; the request is as context 0.
  const std::vector<PastEvent> past = {{9, 1.0F, 2}, {4, 2.0F, 1}, {9, 1.0F, 0}};
  const ScoreDeltas deltas = habits.deltas(past, b, b, 0);
  ASSERT_EQ(deltas.size(), 2U);
  EXPECT_EQ(deltas[0].first, 4);
  EXPECT_NEAR(deltas[0].second, 2 * std::log(1 + 3 * 2 * std::pow(2.0, -0.5) * std::exp(1.0)),
              1e-5);
  EXPECT_EQ(deltas[1].first, 9);
  const double nine = std::pow(3.0, -0.5) * std::exp(0.25) + std::exp(1.25);
  EXPECT_NEAR(deltas[1].second, 2 * std::log(1 + 3 * nine), 1e-5);
}

TEST(Habits, ReadTheLatestEventsOnly) {
  const Batch b = three_contexts();
  const Habits habits{1.0F, 1.0F, 0.0F, {0.0F, 0.0F}};
  std::vector<PastEvent> past(Habits::kEvents + 5, {7, 1.0F, 0});
  past.front().item = 1;
  const ScoreDeltas deltas = habits.deltas(past, b, b, 0);
  ASSERT_EQ(deltas.size(), 1U);
  EXPECT_NEAR(deltas[0].second, std::log(1.0 + Habits::kEvents), 1e-5);
}

TEST(Habits, RefuseNumbersThatNobodyFits) {
  EXPECT_NO_THROW(check_habits({}, 3));
  EXPECT_NO_THROW(check_habits({1.0F, 1.0F, 0.0F, {0.0F}}, 1));
  EXPECT_NE(caught([] {
              check_habits({1.0F, 1.0F, 0.0F, {}}, 1);
            }).message.find("matches"),
            std::string::npos);
  EXPECT_NE(caught([] {
              check_habits({1.0F, -1.0F, 0.0F, {}}, 0);
            }).message.find("the scale"),
            std::string::npos);
  EXPECT_NE(caught([] {
              check_habits({NAN, 1.0F, 0.0F, {}}, 0);
            }).message.find("the weight"),
            std::string::npos);
  EXPECT_NE(caught([] {
              check_habits({1.0F, 1.0F, 0.0F, {60.0F, 60.0F}}, 2);
            }).message.find("may be 64"),
            std::string::npos);
}

TEST(Habits, RaiseWhatStoredPeopleDidAtSuchMoments) {
  ModelData model = random_model();
  const auto context = model.features.group(Group::kContext);
  model.memory.habits = {3.0F, 1.0F, 0.1F, std::vector<float>(context.size(), 0.0F)};
  size_t weather = 0;
  while (context[weather].feature.name != "weather") ++weather;
  model.memory.habits.match[weather] = 4.0F;
  const Recommender rec(model);
  const Record rain = {{"weather", std::string("weather1")}};
  const Record sun = {{"weather", std::string("weather2")}};
  Record old = rain;  // of a schema that had one field more
  old.emplace_back("gone", int64_t{1});
  const PeopleInMemory people(
      {{"ann", {}, {{"i1", "", 1.0, sun}, {"i2", "", 2.0, old}, {"lost", "", 3.0, rain}}}});
  Request request;
  request.user = "ann";
  request.time = 1e9;
  RecommendOptions options;
  options.k = rec.index().size();
  std::map<std::string, float> plain, wet;
  const auto ask = [&](const Record& now, std::map<std::string, float>& scores) {
    request.context = now;
    const auto answers = rec.recommend({&request, 1}, options, &people, {});
    for (const Hit& hit : answers.front().hits) {
      scores[rec.index().id(hit.row)] = hit.score;
    }
    const std::vector<std::vector<std::string>> both(1, std::vector<std::string>{"i1", "i2"});
    const std::vector<float> scored = rec.score({&request, 1}, both, &people, {});
    EXPECT_EQ(scored[0], scores["i1"]);
    EXPECT_EQ(scored[1], scores["i2"]);
  };
  ask(rain, wet);
  model.memory = {};
  const Recommender without(model);
  const auto answers = without.recommend({&request, 1}, options, &people, {});
  for (const Hit& hit : answers.front().hits) {
    plain[without.index().id(hit.row)] = hit.score;
  }
  const auto added = [](double power) { return 3 * std::log1p(std::exp(power)); };
  // "lost" is not in the catalogue: i2 is the latest event that counts.
  EXPECT_NEAR(wet["i2"] - plain["i2"], added(4.0), 1e-4);
  EXPECT_NEAR(wet["i1"] - plain["i1"], added(-0.1 * std::log(2.0)), 1e-4);
  EXPECT_EQ(wet["i3"], plain["i3"]);
}

}  // namespace
}  // namespace hypertower
