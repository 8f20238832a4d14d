#include "trainer/dynamic_vocabulary.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hypertower {
namespace {

// A dictionary of 100 values; two hashed rows.
FittedFeature feature_of(int64_t rows, int64_t min_count, Eviction evict) {
  Feature f;
  f.name = "city";
  f.dynamic_rows = rows;
  f.min_count = min_count;
  f.evict = evict;
  f.oov_rows = 2;
  std::vector<std::string> values;
  for (int i = 0; i < 100; ++i) values.push_back("city " + std::to_string(i));
  return {f, Vocabulary(std::move(values), f.oov_rows), {}};
}

std::vector<int64_t> numbers(int64_t first, int64_t end) {
  std::vector<int64_t> out;
  for (int64_t i = first; i < end; ++i) out.push_back(i);
  return out;
}

TEST(DynamicVocabulary, GivesRowsInTrainingAndHashedRowsToTheRest) {
  const FittedFeature f = feature_of(32, 2, Eviction::kNone);
  DynamicVocabulary v(f);
  EXPECT_EQ(v.table_rows(), 34);
  std::vector<IdTableChange> changes;
  // 3 comes twice, 4 once; 101 is the second hashed row of the dictionary: an unknown value.
  const std::vector<int64_t> rows = v.assign(std::vector<int64_t>{3, 4, 3, 101}, &changes, 1);
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].id, 3);
  EXPECT_EQ(rows[0], changes[0].row);
  EXPECT_EQ(rows[2], rows[0]);
  EXPECT_EQ(rows[1], 32 + static_cast<int64_t>(stable_hash("city 4") % 2));
  EXPECT_EQ(rows[3], 33);
  EXPECT_EQ(v.find(std::vector<int64_t>{3, 4, 100}, 1),
            (std::vector<int64_t>{rows[0], rows[1], 32}));
  EXPECT_EQ(v.report()["values"], 1);
}

TEST(DynamicVocabulary, CountsWhoFindsNoRowAndWhoLosesOne) {
  for (const Eviction evict : {Eviction::kNone, Eviction::kLeastRecent}) {
    const FittedFeature f = feature_of(32, 1, evict);
    DynamicVocabulary v(f);
    std::vector<IdTableChange> changes;
    v.assign(numbers(0, 40), &changes, 1);
    EXPECT_EQ(v.report()["values"], 32);
    EXPECT_EQ(v.report()["failed"], 8);
    v.begin_step();
    v.assign(numbers(90, 100), &changes, 1);
    EXPECT_EQ(v.report()["evicted"], evict == Eviction::kNone ? 0 : 10);
    EXPECT_EQ(v.report()["failed"], evict == Eviction::kNone ? 18 : 8);
  }
}

// The exported table has at each exported number the row that the towers look up.
TEST(DynamicVocabulary, ExportsTheSameRows) {
  const FittedFeature f = feature_of(64, 1, Eviction::kLeastFrequent);
  DynamicVocabulary v(f);
  std::vector<IdTableChange> changes;
  for (int64_t first = 0; first < 90; first += 10) {
    v.begin_step();
    v.assign(numbers(first, first + 15 > 100 ? 100 : first + 15), &changes, 1);
  }
  const std::vector<int64_t> all = numbers(0, 102);
  const std::vector<int64_t> rows = v.find(all, 1);
  const std::vector<int64_t> order = v.exported_order();
  const std::vector<int64_t> exported_numbers = v.exported_numbers(all);
  const FittedFeature out = exported(f, v);
  EXPECT_EQ(out.width(), static_cast<int64_t>(order.size()));
  EXPECT_EQ(out.vocabulary.size(), static_cast<int64_t>(v.known().size()));
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(order[static_cast<size_t>(exported_numbers[i])], rows[i]) << i;
    if (i >= 100) continue;  // has no text
    EXPECT_EQ(out.vocabulary.row(f.vocabulary.value(all[i])), exported_numbers[i]);
  }
}

TEST(DynamicVocabulary, GoesBackToWhatWasSaved) {
  const FittedFeature f = feature_of(32, 1, Eviction::kLeastRecent);
  DynamicVocabulary v(f);
  std::vector<IdTableChange> changes;
  v.assign(numbers(0, 30), &changes, 1);
  const std::vector<int64_t> before = v.find(numbers(0, 100), 1);
  const IdTable::Saved saved = v.save();
  v.begin_step();
  v.assign(numbers(50, 80), &changes, 1);
  EXPECT_NE(v.find(numbers(0, 100), 1), before);
  v.restore(saved);
  EXPECT_EQ(v.find(numbers(0, 100), 1), before);
}

}  // namespace
}  // namespace hypertower
