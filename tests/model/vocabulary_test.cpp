#include "model/vocabulary.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/model/caught.h"

namespace hypertower {
namespace {

// The published test vectors of FNV-1a 64.
TEST(StableHash, EqualsThePublishedValues) {
  EXPECT_EQ(stable_hash(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(stable_hash("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(stable_hash("foobar"), 0x85944171f73967e8ULL);
}

TEST(Vocabulary, KnownValuesHaveTheirRows) {
  const Vocabulary v({"Drama", "Comedy", ""}, 4);
  EXPECT_EQ(v.row("Drama"), 0);
  EXPECT_EQ(v.row("Comedy"), 1);
  EXPECT_EQ(v.row(""), 2);
  EXPECT_EQ(v.rows(), 7);
  EXPECT_EQ(v.value(1), "Comedy");
  EXPECT_EQ(v.known("drama"), -1);
}

TEST(Vocabulary, UnknownValuesHaveStableHashedRows) {
  const Vocabulary v({"Drama"}, 4);
  // 1 + FNV-1a("a") mod 4; these rows are part of the format.
  EXPECT_EQ(v.row("a"), 1 + static_cast<int64_t>(0xaf63dc4c8601ec8cULL % 4));
  EXPECT_EQ(v.row("foobar"), 1 + static_cast<int64_t>(0x85944171f73967e8ULL % 4));
  EXPECT_EQ(v.known("a"), -1);
  std::set<int64_t> rows;
  for (int i = 0; i < 200; ++i) rows.insert(v.row("value " + std::to_string(i)));
  EXPECT_EQ(rows, (std::set<int64_t>{1, 2, 3, 4}));
}

TEST(Vocabulary, WithoutHashedRowsUnknownIsMinusOne) {
  EXPECT_EQ(Vocabulary({"a"}, 0).row("b"), -1);
  EXPECT_EQ(Vocabulary().row("b"), -1);
}

TEST(Vocabulary, FindsEachOfManyAfterCopyAndMove) {
  std::vector<std::string> values;
  for (int i = 0; i < 20'000; ++i) values.push_back("item " + std::to_string(i));
  Vocabulary first(values, 1);
  const Vocabulary copy = first;
  const Vocabulary moved = std::move(first);
  for (int i = 0; i < 20'000; i += 7) {
    ASSERT_EQ(copy.known(values[static_cast<size_t>(i)]), i);
    ASSERT_EQ(moved.known(values[static_cast<size_t>(i)]), i);
  }
  EXPECT_EQ(copy.known("item 20000"), -1);
}

TEST(Vocabulary, RefusesRepeatsAndNegativeRows) {
  EXPECT_EQ(caught([] {
              Vocabulary({"a", "b", "a"}, 1);
            }).message,
            "a vocabulary must hold distinct values, but row 2 repeats 'a'");
  EXPECT_EQ(caught([] { Vocabulary({"a"}, -1); }).message,
            "a vocabulary has 0 or more hashed rows, got -1");
}

}  // namespace
}  // namespace hypertower
