#include "kernels/error.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace hypertower {
namespace {

const std::vector<std::string> kFields = {"hour", "weekday", "weather", "device"};

TEST(NearestName, FindsOneTypo) {
  EXPECT_EQ(nearest_name("huor", kFields), "hour");   // swapped
  EXPECT_EQ(nearest_name("our", kFields), "hour");    // missing
  EXPECT_EQ(nearest_name("hourr", kFields), "hour");  // doubled
  EXPECT_EQ(nearest_name("wether", kFields), "weather");
}

TEST(NearestName, IgnoresCase) {
  EXPECT_EQ(nearest_name("DEVICE", kFields), "device");
}

TEST(NearestName, IsEmptyWhenNothingIsNear) {
  EXPECT_EQ(nearest_name("temperature", kFields), "");
  EXPECT_EQ(nearest_name("", kFields), "");
  EXPECT_EQ(nearest_name("hour", {}), "");
}

TEST(NearestName, OneLetterIsNeverNearAnother) {
  EXPECT_EQ(nearest_name("x", std::vector<std::string>{"y"}), "");
}

TEST(NearestName, TakesTheClosestAndThenTheFirst) {
  EXPECT_EQ(nearest_name("weekda", std::vector<std::string>{"weekend", "weekday"}), "weekday");
  EXPECT_EQ(nearest_name("bat", std::vector<std::string>{"cat", "hat"}), "cat");
}

TEST(NameHint, NamesTheNearest) {
  EXPECT_EQ(name_hint("huor", kFields), " Did you mean 'hour'?");
}

TEST(NameHint, ListsTheKnownNames) {
  EXPECT_EQ(name_hint("temperature", kFields), " Known: hour, weekday, weather, device.");
}

TEST(NameHint, ListsAtMostTwelveNames) {
  std::vector<std::string> names;
  for (int i = 0; i < 14; ++i) names.push_back("feature" + std::to_string(100 + i));
  EXPECT_EQ(name_hint("zzz", names),
            " Known: feature100, feature101, feature102, feature103, feature104, feature105, "
            "feature106, feature107, feature108, feature109, feature110, feature111 and 2 more.");
}

TEST(NameHint, SaysNothingWithoutCandidates) {
  EXPECT_EQ(name_hint("hour", {}), "");
}

TEST(Error, CarriesKindFieldAndSentence) {
  const Error error(ErrorKind::kSchema, "no such field", "context.huor");
  EXPECT_EQ(error.kind(), ErrorKind::kSchema);
  EXPECT_EQ(error.field(), "context.huor");
  EXPECT_STREQ(error.what(), "no such field");
}

}  // namespace
}  // namespace hypertower
