#include <gtest/gtest.h>

#include <cmath>

#include "model/features.h"
#include "tests/model/caught.h"

namespace hypertower {
namespace {

Feature feature(const std::string& name, FeatureKind kind) {
  Feature f;
  f.name = name;
  f.group = Group::kItem;
  f.kind = kind;
  f.length = 2;
  f.bins = 4;
  return f;
}

Schema schema_of(std::vector<Feature> features) {
  Schema schema;
  schema.features = std::move(features);
  return schema;
}

std::vector<float> edges_of(const std::vector<double>& values, int64_t bins) {
  Feature number = feature("n", FeatureKind::kNumber);
  number.bins = bins;
  FeatureFitter fitter(schema_of({number}));
  for (const double value : values) fitter.add(0, value);
  return fitter.finish().group(Group::kItem)[0].edges;
}

TEST(FeatureFitter, OrdersByCountThenText) {
  FeatureFitter fitter(schema_of({feature("g", FeatureKind::kCategories)}));
  fitter.add(0, std::vector<std::string>{"b", "c", "a"});
  fitter.add(0, std::vector<std::string>{"c", "d"});
  fitter.add(0, Value{});
  const FeatureSpace space = fitter.finish();
  EXPECT_EQ(space.group(Group::kItem)[0].vocabulary.values(),
            (std::vector<std::string>{"c", "a", "b", "d"}));
}

TEST(FeatureFitter, RareValuesShareTheHashedRows) {
  Feature category = feature("g", FeatureKind::kCategory);
  category.min_count = 2;
  category.oov_rows = 3;
  FeatureFitter fitter(schema_of({category}));
  for (const char* text : {"x", "y", "x"}) fitter.add(0, std::string(text));
  const FittedFeature f = fitter.finish().group(Group::kItem)[0];
  EXPECT_EQ(f.vocabulary.values(), std::vector<std::string>{"x"});
  EXPECT_EQ(f.width(), 4);
  EXPECT_GE(f.vocabulary.row("y"), 1);
}

TEST(FeatureFitter, IntegersTextsAndWholeDoublesAreOneValue) {
  FeatureFitter fitter(schema_of({feature("year", FeatureKind::kCategory)}));
  fitter.add(0, int64_t{1995});
  fitter.add(0, 1995.0);
  fitter.add(0, std::string("1995"));
  EXPECT_EQ(fitter.finish().group(Group::kItem)[0].vocabulary.size(), 1);
}

TEST(FeatureFitter, TimePartsKnowAllTheirValues) {
  Feature hour = feature("hour", FeatureKind::kCategory);
  hour.group = Group::kContext;
  hour.from_time = TimePart::kHour;
  FeatureFitter fitter(schema_of({hour}));
  fitter.add(0, int64_t{3});
  const FittedFeature f = fitter.finish().group(Group::kContext)[0];
  EXPECT_EQ(f.vocabulary.size(), 24);
  EXPECT_EQ(f.vocabulary.row("3"), 3);
}

TEST(FeatureFitter, EdgesAreQuantiles) {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i * i);
  EXPECT_EQ(edges_of(values, 4), (std::vector<float>{0, 625, 2500, 5625, 10000}));
}

TEST(FeatureFitter, RepeatedValuesGiveFewerDistinctEdges) {
  EXPECT_EQ(edges_of({1, 1, 1, 1, 1, 1, 1, 5}, 4), (std::vector<float>{1, 5}));
}

TEST(FeatureFitter, AConstantLiesInsideOnePiece) {
  const std::vector<float> edges = edges_of({7, 7, 7}, 4);
  ASSERT_EQ(edges.size(), 2U);
  EXPECT_LT(edges[0], 7.0F);
  EXPECT_GT(edges[1], 7.0F);
  const std::vector<float> large = edges_of({3e20, 3e20}, 4);
  EXPECT_LT(large[0], large[1]);
}

TEST(FeatureFitter, NoValueAtAllStillFits) {
  EXPECT_EQ(edges_of({}, 8), (std::vector<float>{0, 1}));
}

TEST(FeatureFitter, SamplesManyNumbersFairlyAndRepeatably) {
  std::vector<double> values(600'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  const std::vector<float> edges = edges_of(values, 4);
  ASSERT_EQ(edges.size(), 5U);
  for (int q = 1; q < 4; ++q) {
    EXPECT_NEAR(edges[static_cast<size_t>(q)], 150'000.0 * q, 3'000.0);
  }
  EXPECT_EQ(edges, edges_of(values, 4));
}

TEST(FeatureFitter, RefusesWrongTypes) {
  FeatureFitter fitter(
      schema_of({feature("n", FeatureKind::kNumber), feature("v", FeatureKind::kVector)}));
  EXPECT_EQ(caught([&] { fitter.add(0, std::string("x")); }).message,
            "item.n: expected a number, got text");
  EXPECT_EQ(caught([&] { fitter.add(1, std::vector<double>{1.0}); }).message,
            "item.v: expected a list of 2 numbers, got 1");
  EXPECT_EQ(caught([&] { fitter.add(0, std::nan("")); }).kind, ErrorKind::kNumeric);
}

}  // namespace
}  // namespace hypertower
