#include "model/index.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/topk.h"
#include "model/json.h"
#include "tests/model/caught.h"

namespace hypertower {
namespace {

using nlohmann::json;
using Ids = std::vector<std::string>;

Feature feature(const std::string& name, FeatureKind kind) {
  Feature f;
  f.name = name;
  f.group = Group::kItem;
  f.kind = kind;
  return f;
}

// Items a .. e:        a          b        c        d            e
//   genre            Comedy  Drama,Comedy  Drama   (none)      Horror
//   price               5        10        20      (missing)     10.5
ItemIndex shop() {
  AttributeBuilder genre(feature("genre", FeatureKind::kCategories));
  genre.add(Ids{"Comedy"});
  genre.add(Ids{"Drama", "Comedy"});
  genre.add(Ids{"Drama"});
  genre.add(Value{});
  genre.add(Ids{"Horror"});
  AttributeBuilder price(feature("price", FeatureKind::kNumber));
  for (const Value& v : {Value(int64_t{5}), Value(10.0), Value(20.0), Value{}, Value(10.5)}) {
    price.add(v);
  }
  Catalogue c;
  c.ids = {"a", "b", "c", "d", "e"};
  c.dim = 1;
  c.vectors = {1, 2, 3, 4, 5};
  c.attributes = {genre.finish(), price.finish()};
  return ItemIndex(std::move(c));
}

std::string passing(const ItemIndex& index, const json& where) {
  const auto mask = index.compile(filter_from_json(where));
  std::string ids;
  for (int64_t i = 0; i < index.size(); ++i) {
    if ((mask->words[static_cast<size_t>(i / 64)] >> (i % 64) & 1) != 0) ids += index.id(i);
  }
  EXPECT_EQ(mask->eligible, static_cast<int64_t>(ids.size()));
  return ids;
}

TEST(Filter, Conditions) {
  const ItemIndex index = shop();
  EXPECT_EQ(passing(index, json::object()), "abcde");
  EXPECT_EQ(passing(index, {{"genre", {"Comedy"}}}), "ab");
  EXPECT_EQ(passing(index, {{"genre", "Comedy"}}), "ab");
  EXPECT_EQ(passing(index, {{"genre", {"Comedy", "Horror", "Western"}}}), "abe");
  EXPECT_EQ(passing(index, {{"genre", {"Western"}}}), "");
  EXPECT_EQ(passing(index, {{"genre", json::array()}}), "");
  EXPECT_EQ(passing(index, {{"price", {{"max", 10}}}}), "ab");
  EXPECT_EQ(passing(index, {{"price", {{"min", 10}}}}), "bce");
  EXPECT_EQ(passing(index, {{"price", {{"min", 10}, {"max", 10}}}}), "b");
  EXPECT_EQ(passing(index, {{"price", {{"min", 30}, {"max", 10}}}}), "");
}

TEST(Filter, Combinations) {
  const ItemIndex index = shop();
  EXPECT_EQ(passing(index, {{"genre", {"Drama"}}, {"price", {{"max", 15}}}}), "b");
  EXPECT_EQ(passing(index, {{"not", {{"genre", {"Comedy"}}}}}), "cde");
  EXPECT_EQ(passing(index, {{"not", {{"price", {{"max", 10}}}}}}), "cde");  // d: missing
  EXPECT_EQ(passing(index, {{"not", json::object()}}), "");
  EXPECT_EQ(passing(index, {{"any", {{{"genre", {"Horror"}}}, {{"price", {{"max", 5}}}}}}}), "ae");
  EXPECT_EQ(passing(index, {{"any", json::array()}}), "");
  EXPECT_EQ(passing(index, {{"any",
                             {{{"genre", {"Drama"}}, {"price", {{"min", 15}}}},
                              {{"not", {{"genre", {"Drama", "Comedy"}}}}}}}}),
            "cde");
  EXPECT_EQ(passing(index, {{"not", {{"not", {{"not", {{"genre", {"Drama"}}}}}}}}}), "ade");
}

TEST(Filter, NamesWhatItDoesNotKnow) {
  const ItemIndex index = shop();
  const auto of = [&index](const json& where) {
    const Caught error = caught([&] { index.compile(filter_from_json(where)); });
    EXPECT_EQ(error.kind, ErrorKind::kSchema);
    EXPECT_TRUE(error.message.starts_with(error.field + ": "));
    return error.message;
  };
  EXPECT_EQ(of({{"genra", {"x"}}}), "where.genra: unknown field. Did you mean 'genre'?");
  EXPECT_EQ(of({{"colour", {"x"}}}), "where.colour: unknown field. Known: genre, price.");
  EXPECT_EQ(of({{"price", {5}}}),
            "where.price: this is a number; write {\"min\": ..., \"max\": ...} instead of values");
  EXPECT_EQ(of({{"genre", {{"max", 5}}}}),
            "where.genre: min and max are for numbers and this is a category; write a list of "
            "values");
  const ItemIndex bare({{"a"}, {1.0F}, 1, {}});
  EXPECT_EQ(caught([&] {
              bare.compile(filter_from_json({{"x", {1}}}));
            }).message,
            "where.x: unknown field. The items of this model have no attributes.");
}

// Random trees against a direct reading of every item, over sizes around the words' borders.
class RandomFilters : public testing::TestWithParam<int> {};

bool passes(const Filter& f, const Catalogue& c, size_t item) {
  const auto child_passes = [&](const Filter& child) { return passes(child, c, item); };
  switch (f.op) {
    case Filter::Op::kAll:
      return std::all_of(f.children.begin(), f.children.end(), child_passes);
    case Filter::Op::kNot:
      return !std::all_of(f.children.begin(), f.children.end(), child_passes);
    case Filter::Op::kAny:
      return std::any_of(f.children.begin(), f.children.end(), child_passes);
    case Filter::Op::kRange: {
      const double x = c.attributes[1].numbers[item];
      return !std::isnan(x) && (!f.min || x >= *f.min) && (!f.max || x <= *f.max);
    }
    case Filter::Op::kOneOf:
      break;
  }
  const Attribute& a = c.attributes[0];
  for (int64_t j = a.offsets[item]; j < a.offsets[item + 1]; ++j) {
    const std::string& value = a.values.value(a.codes[static_cast<size_t>(j)]);
    if (std::find(f.values.begin(), f.values.end(), value) != f.values.end()) return true;
  }
  return false;
}

Filter random_filter(std::mt19937& engine, int depth) {
  Filter f;
  const auto below = [&engine](unsigned n) { return engine() % n; };
  const unsigned kind = depth == 0 ? 3 + below(2) : below(5);
  f.op = static_cast<Filter::Op>(kind == 0 ? 0 : kind == 1 ? 1 : kind == 2 ? 2 : kind == 3 ? 3 : 4);
  if (f.op == Filter::Op::kOneOf) {
    f.field = "genre";
    for (unsigned i = 0; i < below(4); ++i) f.values.push_back("g" + std::to_string(below(6)));
  } else if (f.op == Filter::Op::kRange) {
    f.field = "price";
    if (below(2) == 0) f.min = below(10);
    if (!f.min || below(2) == 0) f.max = below(10);
  } else {
    for (unsigned i = 0; i < below(4); ++i) f.children.push_back(random_filter(engine, depth - 1));
  }
  return f;
}

TEST_P(RandomFilters, AgreeWithADirectReading) {
  std::mt19937 engine(5);
  const auto items = static_cast<size_t>(GetParam());
  AttributeBuilder genre(feature("genre", FeatureKind::kCategories));
  AttributeBuilder price(feature("price", FeatureKind::kNumber));
  Catalogue c;
  c.dim = 1;
  for (size_t i = 0; i < items; ++i) {
    Ids genres;
    for (unsigned j = 0; j < engine() % 3; ++j)
      genres.push_back("g" + std::to_string(engine() % 5));
    genre.add(genres);
    price.add(engine() % 4 == 0 ? Value{} : Value(static_cast<double>(engine() % 10)));
    c.ids.push_back(std::to_string(i));
  }
  c.vectors = std::vector<float>(items);
  c.attributes = {genre.finish(), price.finish()};
  const ItemIndex index(c);
  for (int n = 0; n < 200; ++n) {
    const Filter f = random_filter(engine, 4);
    const auto mask = index.compile(f);
    int64_t eligible = 0;
    for (size_t i = 0; i < items; ++i) {
      const bool expected = passes(f, c, i);
      ASSERT_EQ(mask->words[i / 64] >> (i % 64) & 1, expected ? 1U : 0U) << filter_to_json(f);
      eligible += expected ? 1 : 0;
    }
    ASSERT_EQ(mask->eligible, eligible);
    // What is written as JSON filters the same.
    const auto again = index.compile(filter_from_json(filter_to_json(f)));
    ASSERT_EQ(again->words, mask->words);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RandomFilters, testing::Values(1, 63, 64, 65, 200));

TEST(ItemIndex, FindsRowsAndIds) {
  const ItemIndex index = shop();
  EXPECT_EQ(index.size(), 5);
  EXPECT_EQ(index.row("c"), 2);
  EXPECT_EQ(index.row("z"), -1);
  EXPECT_EQ(index.id(4), "e");
  const ItemIndex copy = index;
  EXPECT_EQ(copy.row("e"), 4);
}

TEST(ItemIndex, Searches) {
  const ItemIndex index = shop();
  const std::vector<float> up = {1.0F};
  const std::vector<float> down = {-1.0F};
  std::vector<Query> queries(4);
  queries[0].vector = up;
  queries[1].vector = down;
  queries[1].mask = index.compile(filter_from_json({{"genre", {"Drama"}}}));
  queries[2].vector = up;
  queries[2].exclude = {4, 3, 4};
  queries[3].vector = up;
  queries[3].mask = index.compile(filter_from_json({{"price", {{"max", 10}}}}));
  queries[3].adjust = {{0, 10.0F}, {4, 100.0F}};  // item 4 does not pass the filter
  const auto hits = index.search(queries, 3, {});
  const auto rows = [&hits](size_t r) {
    std::vector<int64_t> out;
    for (const Hit& hit : hits[r]) out.push_back(hit.row);
    return out;
  };
  EXPECT_EQ(rows(0), (std::vector<int64_t>{4, 3, 2}));
  EXPECT_EQ(rows(1), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(rows(2), (std::vector<int64_t>{2, 1, 0}));
  EXPECT_EQ(rows(3), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(hits[3][0].score, 11.0F);
  EXPECT_EQ(hits[1][0].score, -2.0F);
}

TEST(ItemIndex, ManyMasksInOneBatchEqualOneByOne) {
  const ItemIndex index = shop();
  const std::vector<float> vector = {1.0F};
  const json filters[] = {
      {{"genre", {"Comedy"}}}, {{"genre", {"Drama"}}}, {{"price", {{"min", 6}}}}};
  std::vector<std::shared_ptr<const Mask>> masks = {nullptr};
  for (const json& f : filters) masks.push_back(index.compile(filter_from_json(f)));
  std::vector<Query> queries(40);
  for (size_t i = 0; i < queries.size(); ++i) {
    queries[i].vector = vector;
    queries[i].mask = masks[(i * 7) % 4];
  }
  Exec exec;
  exec.threads = 3;
  const auto together = index.search(queries, 4, exec);
  for (size_t i = 0; i < queries.size(); ++i) {
    const auto alone = index.search({&queries[i], 1}, 4, {});
    ASSERT_EQ(alone[0].size(), together[i].size());
    for (size_t j = 0; j < alone[0].size(); ++j) EXPECT_EQ(alone[0][j].row, together[i][j].row);
  }
}

TEST(ItemIndex, TiesGoByRowAndKMayBeLarger) {
  const ItemIndex index({{"x", "y", "z"}, {1, 1, 1}, 1, {}});
  const std::vector<float> vector = {2.0F};
  Query query;
  query.vector = vector;
  const auto hits = index.search({&query, 1}, 1'000'000'000'000, {});
  ASSERT_EQ(hits[0].size(), 3U);
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(hits[0][static_cast<size_t>(i)].row, i);
}

TEST(ItemIndex, EmptyBatchesAndCatalogues) {
  EXPECT_TRUE(shop().search({}, 3, {}).empty());
  const ItemIndex nothing({{}, {}, 2, {}});
  const std::vector<float> vector = {1.0F, 2.0F};
  Query query;
  query.vector = vector;
  EXPECT_TRUE(nothing.search({&query, 1}, 3, {})[0].empty());
  EXPECT_EQ(nothing.compile({})->eligible, 0);
}

TEST(ItemIndex, RefusesBrokenCallsAndCatalogues) {
  const ItemIndex index = shop();
  const std::vector<float> two = {1.0F, 2.0F};
  const std::vector<float> nan = {NAN};
  Query query;
  query.vector = two;
  EXPECT_EQ(caught([&] {
              index.search({&query, 1}, 0, {});
            }).message,
            "k: expected 1 or more, got 0");
  EXPECT_EQ(caught([&] {
              index.search({&query, 1}, 1, {});
            }).message,
            "search: expected a query of 1 numbers, got 2");
  query.vector = nan;
  const Caught error = caught([&] { index.search({&query, 1}, 1, {}); });
  EXPECT_EQ(error.kind, ErrorKind::kNumeric);
  EXPECT_EQ(error.message, "the query of request 0 holds NaN or infinity");

  const auto of = [](Catalogue c) {
    const Caught e = caught([&] { ItemIndex(std::move(c)); });
    EXPECT_EQ(e.kind, ErrorKind::kModel);
    return e.message;
  };
  EXPECT_EQ(of({{"a", "a"}, {1, 2}, 1, {}}), "the item 'a' comes twice in the catalogue");
  EXPECT_EQ(of({{"a", "b"}, {1, 2, 3}, 1, {}}),
            "the catalogue has 2 items of 1 numbers, but 3 numbers in all");
  EXPECT_EQ(of({{"a", "b"}, {1, INFINITY}, 1, {}}), "the vector of item 'b' holds NaN or infinity");
  EXPECT_EQ(of({{"a"}, {1}, 1, {{"n", true, {}, {}, {}, {1, 2}}}}),
            "attribute 'n': expected 1 numbers, found 2");
  EXPECT_EQ(of({{"a"}, {1}, 1, {{"g", false, Vocabulary({"x"}, 0), {0}, {0, 2}, {}}}}),
            "attribute 'g': its offsets do not fit 1 items");
  EXPECT_EQ(of({{"a"}, {1}, 1, {{"g", false, Vocabulary({"x"}, 0), {1}, {0, 1}, {}}}}),
            "attribute 'g': a code is 1, expected 0 to 0");
}

TEST(AttributeBuilder, ReadsValuesAsFeaturesDo) {
  Feature f = feature("genre", FeatureKind::kCategories);
  f.separator = "|";
  AttributeBuilder builder(f);
  builder.add(std::string("a| b|a"));
  builder.add(int64_t{7});
  builder.add(Value{});
  const Attribute a = builder.finish();
  EXPECT_EQ(a.values.values(), (Ids{"a", "b", "7"}));
  EXPECT_EQ(a.codes, (std::vector<int32_t>{0, 1, 0, 2}));
  EXPECT_EQ(a.offsets, (std::vector<int64_t>{0, 3, 4, 4}));
  AttributeBuilder number(feature("price", FeatureKind::kNumber));
  EXPECT_EQ(caught([&] { number.add(std::string("5")); }).message,
            "item.price: expected a number, got text");
}

}  // namespace
}  // namespace hypertower
