#include "trainer/split.h"

#include <gtest/gtest.h>

#include "tests/trainer/support.h"

namespace hypertower {
namespace {

std::string letters(const std::vector<Part>& parts) {
  std::string out;
  for (const Part p : parts) out += p == Part::kTrain ? '.' : p == Part::kValid ? 'v' : 't';
  return out;
}

TEST(SplitByTime, HoldsOutTheLatest) {
  const std::vector<double> order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(letters(split_by_time(order, 0.1, 0.1)), "........vt");
  EXPECT_EQ(letters(split_by_time(order, 0.2, 0.3)), ".....vvttt");
  EXPECT_EQ(letters(split_by_time(order, 0.0, 0.1)), ".........t");
  EXPECT_EQ(letters(split_by_time(order, 0.1, 0.0)), ".........v");
  EXPECT_EQ(letters(split_by_time(order, 0.0, 0.0)), "..........");
}

TEST(SplitByTime, KeepsSimultaneousEventsInTheLaterPart) {
  EXPECT_EQ(letters(split_by_time(std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 7, 7}, 0.1, 0.1)),
            ".......ttt");
  EXPECT_EQ(letters(split_by_time(std::vector<double>{0, 1, 2, 3, 4, 5, 6, 6, 6, 9}, 0.1, 0.1)),
            "......vvvt");
}

TEST(SplitByTime, RefusesOneMomentForAll) {
  EXPECT_EQ(testing::error_of([] { split_by_time(std::vector<double>(5, 3.0), 0.1, 0.1); }),
            "data.split = \"time\" leaves none of the 5 events to train on, because too many share "
            "one time; use split = \"last\" or give a finer time column.");
}

TEST(SplitLast, TakesEachUsersLastTwo) {
  //                                   a  b  a  c  a  b  a  c  c
  const std::vector<int64_t> user = {0, 1, 0, 2, 0, 1, 0, 2, 2};
  EXPECT_EQ(letters(split_last(user, 3)), "....v.tvt");
}

TEST(SplitLast, UsersWithTwoEventsOnlyTrain) {
  EXPECT_EQ(letters(split_last(std::vector<int64_t>{0, 0}, 1)), "..");
  EXPECT_EQ(letters(split_last(std::vector<int64_t>{}, 0)), "");
}

TEST(SplitRandom, HoldsOutAShareOfEachUserAndLeavesOneToTrainOn) {
  std::vector<int64_t> user(100, 0);
  user.insert(user.end(), {1, 1, 2});
  const std::vector<Part> parts = split_random(user, 4, 0.1, 0.2);
  const auto count = [&](int64_t who, Part part) {
    int64_t n = 0;
    for (size_t e = 0; e < user.size(); ++e) n += user[e] == who && parts[e] == part ? 1 : 0;
    return n;
  };
  EXPECT_EQ(count(0, Part::kTest), 20);
  EXPECT_EQ(count(0, Part::kValid), 10);
  EXPECT_GE(count(1, Part::kTrain), 1);
  EXPECT_EQ(count(2, Part::kTrain), 1);
  EXPECT_EQ(parts, split_random(user, 4, 0.1, 0.2));
  EXPECT_EQ(count(0, Part::kTrain), 70);
}

}  // namespace
}  // namespace hypertower
