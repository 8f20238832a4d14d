#include "model/features.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/model/caught.h"

namespace hypertower {
namespace {

using Texts = std::vector<std::string>;
using Numbers = std::vector<double>;
using Rows = std::vector<int64_t>;

Feature feature(FeatureKind kind, Group group = Group::kContext) {
  Feature f;
  f.name = "f";
  f.group = group;
  f.kind = kind;
  f.oov_rows = 2;
  f.length = 3;
  return f;
}

FittedFeature fitted(FeatureKind kind) {
  FittedFeature f{feature(kind), {}, {}};
  if (kind == FeatureKind::kNumber) f.edges = {0.0F, 1.0F, 10.0F};
  if (kind == FeatureKind::kCategory || kind == FeatureKind::kCategories) {
    f.vocabulary = Vocabulary({"a", "b", "3"}, 2);
  }
  return f;
}

FeatureColumn appended(const FittedFeature& f, const Value& value) {
  FeatureColumn column;
  FeatureSpace::append(f, value, column);
  return column;
}

std::string problem(const FittedFeature& f, const Value& value, ErrorKind kind) {
  const Caught error = caught([&] { appended(f, value); });
  EXPECT_EQ(error.kind, kind);
  EXPECT_EQ(error.field, "context.f");
  return error.message;
}

TEST(Features, Category) {
  const FittedFeature f = fitted(FeatureKind::kCategory);
  EXPECT_EQ(appended(f, std::string("b")).values, Rows{1});
  EXPECT_EQ(appended(f, int64_t{3}).values, Rows{2});
  EXPECT_EQ(appended(f, 3.0).values, Rows{2});
  EXPECT_EQ(appended(f, std::string("b")).offsets, (Rows{0, 1}));
  const int64_t unknown = appended(f, std::string("zz")).values.at(0);
  EXPECT_EQ(unknown, f.vocabulary.row("zz"));
  EXPECT_GE(unknown, 3);
  EXPECT_EQ(f.width(), 5);
}

TEST(Features, MissingAndEmptyTextAreEmptyBags) {
  for (const FeatureKind kind : {FeatureKind::kCategory, FeatureKind::kCategories}) {
    EXPECT_TRUE(appended(fitted(kind), Value{}).values.empty());
    EXPECT_TRUE(appended(fitted(kind), std::string()).values.empty());
    EXPECT_EQ(appended(fitted(kind), Value{}).offsets, (Rows{0, 0}));
  }
  EXPECT_TRUE(appended(fitted(FeatureKind::kCategories), Texts{}).values.empty());
  EXPECT_TRUE(appended(fitted(FeatureKind::kCategories), Texts{""}).values.empty());
}

TEST(Features, CategoryRefusesListsAndNaN) {
  const FittedFeature f = fitted(FeatureKind::kCategory);
  EXPECT_EQ(problem(f, Numbers{1.0}, ErrorKind::kSchema),
            "context.f: expected a category, got a list of numbers");
  EXPECT_EQ(problem(f, Texts{"a"}, ErrorKind::kSchema),
            "context.f: expected a category, got a list of texts");
  EXPECT_EQ(problem(f, std::nan(""), ErrorKind::kNumeric),
            "context.f: expected a finite number, got NaN");
}

TEST(Features, Categories) {
  FittedFeature f = fitted(FeatureKind::kCategories);
  EXPECT_EQ(appended(f, Texts{"b", "a"}).values, (Rows{1, 0}));
  EXPECT_EQ(appended(f, Numbers{3.0, 3.0}).values, (Rows{2, 2}));
  EXPECT_EQ(appended(f, std::string("a|b")).values, Rows{f.vocabulary.row("a|b")});
  f.feature.separator = "|";
  EXPECT_EQ(appended(f, std::string("a| b||3 |")).values, (Rows{0, 1, 2}));
  EXPECT_EQ(appended(f, std::string(" | ")).offsets, (Rows{0, 0}));
  EXPECT_EQ(appended(f, int64_t{3}).values, Rows{2});
  EXPECT_EQ(problem(f, Numbers{1.0, INFINITY}, ErrorKind::kNumeric),
            "context.f: expected a finite number, got infinity");
}

TEST(Features, Number) {
  const FittedFeature f = fitted(FeatureKind::kNumber);
  EXPECT_EQ(appended(f, 2.5).dense, std::vector<float>{2.5F});
  EXPECT_EQ(appended(f, int64_t{-4}).dense, std::vector<float>{-4.0F});
  EXPECT_EQ(appended(f, 1e300).dense, std::vector<float>{std::numeric_limits<float>::max()});
  EXPECT_TRUE(std::isnan(appended(f, Value{}).dense.at(0)));
  EXPECT_EQ(f.width(), 2);
  EXPECT_EQ(problem(f, std::string("12"), ErrorKind::kSchema),
            "context.f: expected a number, got text");
  EXPECT_EQ(problem(f, Numbers{1.0}, ErrorKind::kSchema),
            "context.f: expected a number, got a list of numbers");
  EXPECT_EQ(problem(f, -INFINITY, ErrorKind::kNumeric),
            "context.f: expected a finite number, got -infinity");
}

TEST(Features, Vector) {
  FittedFeature f = fitted(FeatureKind::kVector);
  EXPECT_EQ(appended(f, Numbers{1, 2, 3}).dense, (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(appended(f, Value{}).dense, (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(f.width(), 3);
  EXPECT_EQ(problem(f, Numbers{1, 2}, ErrorKind::kSchema),
            "context.f: expected a list of 3 numbers, got 2");
  EXPECT_EQ(problem(f, 1.0, ErrorKind::kSchema),
            "context.f: expected a list of 3 numbers, got a number");
  EXPECT_EQ(problem(f, Texts{"1", "2", "3"}, ErrorKind::kSchema),
            "context.f: expected a list of 3 numbers, got a list of texts");
  EXPECT_EQ(problem(f, Numbers{1, 2, std::nan("")}, ErrorKind::kNumeric),
            "context.f: expected a finite number, got NaN");
  EXPECT_EQ(problem(f, Numbers{1, 2, 1e300}, ErrorKind::kNumeric),
            "context.f: expected a finite number, got infinity");
  f.feature.separator = " ";
  EXPECT_EQ(appended(f, std::string("1 2.5 -3e1")).dense, (std::vector<float>{1, 2.5F, -30}));
  EXPECT_EQ(problem(f, std::string("1 x 3"), ErrorKind::kSchema),
            "context.f: expected a list of 3 numbers, got text with 'x' in it");
}

FeatureSpace space() {
  Schema schema;
  schema.columns.time = "t";
  schema.outcomes = {"liked"};
  Feature user = feature(FeatureKind::kNumber, Group::kUser);
  user.name = "age";
  Feature hour = feature(FeatureKind::kCategory);
  hour.name = "hour";
  hour.from_time = TimePart::kHour;
  Feature weather = feature(FeatureKind::kCategory);
  weather.name = "weather";
  schema.features = {user, hour, weather};
  return FeatureSpace(schema, {{user, {}, {0.0F, 1.0F}},
                               {hour, Vocabulary(time_part_values(TimePart::kHour), 1), {}},
                               {weather, Vocabulary({"rain"}, 1), {}}});
}

TEST(FeatureSpace, EncodesAGroupInSchemaOrder) {
  const FeatureSpace s = space();
  const Record a = {{"weather", std::string("rain")}};
  const Record b = {{"hour", int64_t{5}}};
  const Record* records[] = {&a, &b, nullptr};
  const std::optional<double> times[] = {3600.0 * 7, 3600.0 * 8, std::nullopt};
  const Batch batch = s.encode(Group::kContext, records, times);
  EXPECT_EQ(batch.rows, 3);
  ASSERT_EQ(batch.columns.size(), 2U);
  EXPECT_EQ(batch.columns[0].values, (Rows{7, 5}));  // from the time, given, neither
  EXPECT_EQ(batch.columns[0].offsets, (Rows{0, 1, 2, 2}));
  EXPECT_EQ(batch.columns[1].values, Rows{0});
  EXPECT_EQ(batch.columns[1].offsets, (Rows{0, 1, 1, 1}));
}

TEST(FeatureSpace, AFieldGivenAsMissingIsNotDerived) {
  const Record record = {{"hour", Value{}}};
  const Record* records[] = {&record};
  const std::optional<double> times[] = {3600.0};
  EXPECT_TRUE(space().encode(Group::kContext, records, times).columns[0].values.empty());
}

TEST(FeatureSpace, TheLastOfRepeatedFieldsCounts) {
  const Record record = {{"age", int64_t{1}}, {"age", int64_t{2}}};
  const Record* records[] = {&record};
  EXPECT_EQ(space().encode(Group::kUser, records, {}).columns[0].dense, std::vector<float>{2.0F});
}

TEST(FeatureSpace, RefusesUnknownFieldsAndOutcomes) {
  const FeatureSpace s = space();
  const auto of = [&s](Group g, const char* name) {
    const Record record = {{name, int64_t{1}}};
    const Record* records[] = {&record};
    const Caught error = caught([&] { s.encode(g, records, {}); });
    EXPECT_EQ(error.kind, ErrorKind::kSchema);
    return error.message;
  };
  EXPECT_EQ(of(Group::kContext, "weathr"),
            "context.weathr: unknown field. Did you mean 'weather'?");
  EXPECT_EQ(of(Group::kContext, "xyz"), "context.xyz: unknown field. Known: hour, weather.");
  EXPECT_EQ(of(Group::kItem, "genre"),
            "item.genre: unknown field. This model has none of this group.");
  EXPECT_EQ(of(Group::kContext, "liked"),
            "context.liked: an outcome is known only after the event, so it cannot be an input; "
            "leave it out.");
}

TEST(FeatureSpace, RefusesBadTimes) {
  const Record* records[] = {nullptr};
  const std::optional<double> times[] = {std::nan("")};
  EXPECT_EQ(caught([&] { space().encode(Group::kContext, records, times); }).kind,
            ErrorKind::kNumeric);
}

TEST(FeatureSpace, RefusesWhatDoesNotFitTheSchema) {
  Schema schema;
  schema.features = {feature(FeatureKind::kNumber)};
  const auto of = [&schema](std::vector<FittedFeature> f) {
    return caught([&] { FeatureSpace(schema, std::move(f)); }).message;
  };
  EXPECT_EQ(of({}), "the schema has 1 features, but 0 are fitted");
  EXPECT_EQ(of({{feature(FeatureKind::kNumber), {}, {1.0F}}}),
            "context.f: expected 2 or more ascending finite edges");
  EXPECT_EQ(of({{feature(FeatureKind::kNumber), {}, {1.0F, 1.0F}}}),
            "context.f: expected 2 or more ascending finite edges");
  EXPECT_EQ(of({{feature(FeatureKind::kNumber), {}, {1.0F, NAN}}}),
            "context.f: expected 2 or more ascending finite edges");
  EXPECT_EQ(of({fitted(FeatureKind::kCategory)}),
            "feature 0 of the schema is context.f, but context.f is fitted there");
}

}  // namespace
}  // namespace hypertower
