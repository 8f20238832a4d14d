#include "model/golden.h"

#include <gtest/gtest.h>

#include "model/json.h"
#include "tests/model/caught.h"
#include "tests/model/random_model.h"
#include "tests/support/edit_array.h"

namespace hypertower {
namespace {

TEST(Golden, IsDeterministicInItsSeed) {
  const ModelData model = random_model();
  const auto a = make_golden(model, 20, 7);
  const auto b = make_golden(model, 20, 7);
  const auto c = make_golden(model, 20, 8);
  ASSERT_EQ(a.size(), 20U);
  EXPECT_EQ(request_to_json(a[5].request), request_to_json(b[5].request));
  EXPECT_EQ(a[5].query, b[5].query);
  EXPECT_NE(request_to_json(a[5].request), request_to_json(c[5].request));
}

TEST(Golden, CoversEveryFeatureGivenAndMissing) {
  const ModelData model = random_model();
  std::map<std::string, int> given;
  int longest = 0;
  const auto golden = make_golden(model, 60, 1);
  for (const Golden& g : golden) {
    EXPECT_FALSE(g.request.user.has_value());
    EXPECT_TRUE(g.request.time && g.request.history);
    EXPECT_EQ(g.items.size(), 10U);
    for (const auto& [name, value] : g.request.context) ++given["context." + name];
    for (const auto& [name, value] : g.request.features) ++given["user." + name];
    longest = std::max(longest, static_cast<int>(g.request.history->size()));
  }
  EXPECT_TRUE(golden[0].request.context.empty() && golden[0].request.history->empty());
  EXPECT_EQ(longest, 6);
  for (const Group g : {Group::kUser, Group::kContext}) {
    for (const FittedFeature& f : model.features.group(g)) {
      const int count = given[std::string(group_word(g)) + "." + f.feature.name];
      EXPECT_GT(count, 20) << f.feature.name;
      EXPECT_LT(count, 60) << f.feature.name;
    }
  }
}

TEST(Golden, AModelPassesItsOwn) {
  ModelData model = random_model();
  model.golden = make_golden(model, 20, 3);
  EXPECT_NO_THROW(Recommender(std::move(model)));
}

TEST(Golden, CatchesChangedWeights) {
  ModelData model = random_model();
  model.golden = make_golden(model, 20, 3);
  edit(model.weights["history.mix"].data, [](std::vector<float>& mix) { mix[17] += 0.05F; });
  const Caught error = caught([&] { Recommender r(std::move(model)); });
  EXPECT_EQ(error.kind, ErrorKind::kModel);
  EXPECT_TRUE(error.message.starts_with("golden request ")) << error.message;
}

TEST(Golden, CatchesAChangedItem) {
  ModelData model = random_model();
  model.golden = make_golden(model, 20, 3);
  const int64_t best = std::stoll(model.golden[0].items[0].substr(1));  // no history reads it
  model.golden.resize(1);
  edit(model.catalogue.vectors,
       [&](std::vector<float>& v) { v[static_cast<size_t>(best * 12)] += 0.01F; });
  const Caught error = caught([&] { Recommender r(std::move(model)); });
  EXPECT_TRUE(error.message.find("expected item 'i" + std::to_string(best) + "' with ") !=
              std::string::npos)
      << error.message;
}

TEST(Golden, TiesMayComeOutInAnotherOrder) {
  ModelData model = random_model();
  // Two items alike: the best one of the first request, and another.
  const size_t best = std::stoul(make_golden(model, 1, 3)[0].items[0].substr(1));
  const size_t other = best == 0 ? 1 : 0;
  edit(model.catalogue.vectors,
       [&](std::vector<float>& v) { std::copy_n(&v[best * 12], 12, &v[other * 12]); });
  model.golden = make_golden(model, 1, 3);
  std::vector<std::string>& items = model.golden[0].items;
  EXPECT_EQ(model.golden[0].scores[0], model.golden[0].scores[1]);
  std::swap(items[0], items[1]);
  EXPECT_NO_THROW(Recommender(std::move(model)));
}

TEST(Golden, WrongLengthsAreErrors) {
  ModelData model = random_model();
  model.golden = make_golden(model, 2, 3);
  ModelData fewer = model;
  fewer.golden[1].items.pop_back();
  fewer.golden[1].scores.pop_back();
  EXPECT_TRUE(caught([&] {
                Recommender r(std::move(fewer));
              }).message.starts_with("golden request 1 expected 9 items, found 10: "));
  model.golden[0].query.pop_back();
  EXPECT_TRUE(caught([&] {
                Recommender r(std::move(model));
              }).message.starts_with("golden request 0 expected a query of 11 numbers, found 12"));
}

}  // namespace
}  // namespace hypertower
