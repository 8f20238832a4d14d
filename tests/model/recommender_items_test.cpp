#include <gtest/gtest.h>

#include <cmath>

#include "model/golden.h"
#include "model/json.h"
#include "model/recommender.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"

namespace hypertower {
namespace {

using Ids = std::vector<std::string>;

class RecommenderItems : public testing::Test {
 protected:
  std::vector<float> vector_of(int64_t row) const {
    const float* v = rec_.index().vectors().row(row);
    return {v, v + 12};
  }

  const Recommender rec_{random_model()};
};

TEST_F(RecommenderItems, IdsGiveTheExportedVectors) {
  const Ids ids = {"i7", "i42"};
  const std::vector<float> found = rec_.encode_items(ids, {}, {});
  std::vector<float> expected = vector_of(7);
  const std::vector<float> second = vector_of(42);
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(found, expected);
}

TEST_F(RecommenderItems, FeaturesAloneEncodeANewItem) {
  const Record features = item_record(41);  // an item that training did not see
  EXPECT_EQ(rec_.encode_items({}, {&features, 1}, {}), vector_of(41));
}

TEST_F(RecommenderItems, IdAndFeaturesKeepTheIdsOwnPart) {
  const Ids ids = {"i7", "brand new", "i3"};
  const Record features[] = {item_record(7), item_record(41), {}};
  const std::vector<float> found = rec_.encode_items(ids, features, {});
  std::vector<float> expected;
  for (const int64_t row : {7, 41, 3}) {
    const std::vector<float> v = vector_of(row);
    expected.insert(expected.end(), v.begin(), v.end());
  }
  EXPECT_EQ(found, expected);
}

TEST_F(RecommenderItems, MistakesAreNamed) {
  const Ids unknown = {"i7", "i99"};
  const Caught error = caught([&] { rec_.encode_items(unknown, {}, {}); });
  EXPECT_EQ(error.kind, ErrorKind::kArgument);
  EXPECT_EQ(error.field, "item");
  EXPECT_EQ(error.message,
            "unknown item 'i99'; give its features to encode a new item. Did you mean 'i9'?");
  const Record features[] = {{{"brnd", std::string("x")}}};
  EXPECT_EQ(caught([&] { rec_.encode_items({}, features, {}); }).message,
            "item.brnd: unknown field. Did you mean 'brand'?");
  const Ids ids = {"i7", "", ""};
  const Record several[] = {{}, {{"year", int64_t{1990}}}, {{"year", std::string("old")}}};
  const Caught year = caught([&] { rec_.encode_items(ids, several, {}); });
  EXPECT_EQ(year.message, "items[2].year: expected a number, got text");
  EXPECT_EQ(year.field, "items[2].year");
  EXPECT_EQ(caught([&] { rec_.encode_items(unknown, features, {}); }).message,
            "expected as many ids as features, got 2 and 1");
}

TEST_F(RecommenderItems, SimilarItemsAreNearestWithoutTheItem) {
  const Ids items = {"i7", "i8"};
  const auto answers = rec_.similar(items, 50, std::nullopt, {});
  ASSERT_EQ(answers.size(), 2U);
  EXPECT_EQ(answers[0].hits.size(), 42U);
  EXPECT_EQ(answers[0].eligible, 42);
  const std::vector<float> own = vector_of(7);
  for (size_t j = 0; j < answers[0].hits.size(); ++j) {
    const Hit& hit = answers[0].hits[j];
    EXPECT_NE(hit.row, 7);
    double cosine = 0.0;  // the last number is the bias
    for (size_t c = 0; c < 11; ++c) cosine += static_cast<double>(own[c]) * vector_of(hit.row)[c];
    EXPECT_NEAR(hit.score, cosine, 1e-6);
    EXPECT_TRUE(j == 0 || answers[0].hits[j - 1].score >= hit.score);
  }
}

TEST_F(RecommenderItems, SimilarItemsKeepToTheFilter) {
  const Ids items = {"i7"};
  const Filter where = filter_from_json({{"brand", {"b0"}}});  // 0, 7, ... 42
  const auto answers = rec_.similar(items, 50, where, {});
  EXPECT_EQ(answers[0].hits.size(), 6U);
  EXPECT_EQ(answers[0].eligible, 6);
  for (const Hit& hit : answers[0].hits) EXPECT_EQ(hit.row % 7, 0);
}

TEST_F(RecommenderItems, SimilarToAnUnknownItem) {
  const Ids items = {"i4x"};
  EXPECT_EQ(caught([&] { rec_.similar(items, 3, std::nullopt, {}); }).message,
            "unknown item 'i4x'. Did you mean 'i4'?");
  EXPECT_EQ(caught([&] { rec_.similar({}, 0, std::nullopt, {}); }).message,
            "k: expected 1 or more, got 0");
}

TEST_F(RecommenderItems, ScoresEqualThoseOfRecommend) {
  const std::vector<Request> requests = {
      request_from_json({{"time", 5}, {"history", {{{"item", "i3"}}}}}),
      request_from_json({{"time", 99999}})};
  RecommendOptions options;
  options.k = 43;
  const auto answers = rec_.recommend(requests, options, nullptr, {});
  std::vector<Ids> items(2);
  std::vector<float> expected;
  for (size_t r = 0; r < 2; ++r) {
    for (const Hit& hit : answers[r].hits) {
      items[r].push_back(rec_.index().id(hit.row));
      expected.push_back(hit.score);
    }
  }
  EXPECT_EQ(rec_.score(requests, items, nullptr, {}), expected);
}

TEST_F(RecommenderItems, AnUnknownItemIsNeverRecommended) {
  const Request request;
  const std::vector<Ids> items = {{"i1", "no such item"}};
  const std::vector<float> scores = rec_.score({&request, 1}, items, nullptr, {});
  EXPECT_TRUE(std::isfinite(scores[0]));
  EXPECT_EQ(scores[1], -INFINITY);
}

TEST_F(RecommenderItems, ScoreWantsListsOfOneLength) {
  const std::vector<Request> requests(2);
  const std::vector<Ids> one = {{"i1"}};
  const std::vector<Ids> uneven = {{"i1"}, {"i1", "i2"}};
  EXPECT_EQ(caught([&] { rec_.score(requests, one, nullptr, {}); }).message,
            "expected one list of items per request, got 1 lists for 2 requests");
  EXPECT_EQ(caught([&] { rec_.score(requests, uneven, nullptr, {}); }).message,
            "expected lists of items of one length, got 1 and 2");
  EXPECT_TRUE(rec_.score({}, {}, nullptr, {}).empty());
}

TEST_F(RecommenderItems, ALoadedModelCanBeSavedAgain) {
  ModelData model = random_model();
  model.golden = make_golden(model, 5, 1);
  const Recommender first(model);
  const Recommender second(first.to_model_data());
  EXPECT_EQ(second.index().catalogue().vectors, model.catalogue.vectors);
  EXPECT_EQ(second.encoder().weights().size(), model.weights.size());
  EXPECT_EQ(second.data().golden.size(), 5U);
}

}  // namespace
}  // namespace hypertower
