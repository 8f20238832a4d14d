#include "model/value.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/model/caught.h"

namespace hypertower {
namespace {

TEST(CanonicalText, IntegersAreDecimal) {
  EXPECT_EQ(canonical_text(int64_t{1995}), "1995");
  EXPECT_EQ(canonical_text(int64_t{-3}), "-3");
  EXPECT_EQ(canonical_text(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
}

TEST(CanonicalText, WholeNumbersFromFloatColumnsEqualIntegers) {
  EXPECT_EQ(canonical_text(1995.0), "1995");
  EXPECT_EQ(canonical_text(-0.0), "0");
  EXPECT_EQ(canonical_text(9007199254740992.0), "9007199254740992");
}

TEST(CanonicalText, OtherNumbersAreShortest) {
  EXPECT_EQ(canonical_text(0.1), "0.1");
  EXPECT_EQ(canonical_text(-2.5), "-2.5");
  EXPECT_EQ(canonical_text(1e300), "1e+300");
}

TEST(CanonicalText, TextStaysAsItIs) {
  EXPECT_EQ(canonical_text(std::string(" 1995.0 ")), " 1995.0 ");
  EXPECT_EQ(canonical_text(std::string()), "");
}

TEST(CanonicalText, MissingListsAndNonFiniteHaveNone) {
  EXPECT_EQ(canonical_text(Value{}), std::nullopt);
  EXPECT_EQ(canonical_text(std::vector<std::string>{"a"}), std::nullopt);
  EXPECT_EQ(canonical_text(std::vector<double>{1.0}), std::nullopt);
  EXPECT_EQ(canonical_text(std::nan("")), std::nullopt);
  EXPECT_EQ(canonical_text(-INFINITY), std::nullopt);
}

TEST(TypeWord, NamesEveryType) {
  EXPECT_EQ(type_word(Value{}), "nothing");
  EXPECT_EQ(type_word(int64_t{1}), "an integer");
  EXPECT_EQ(type_word(1.0), "a number");
  EXPECT_EQ(type_word(std::string("a")), "text");
  EXPECT_EQ(type_word(std::vector<std::string>{}), "a list of texts");
  EXPECT_EQ(type_word(std::vector<double>{}), "a list of numbers");
}

TEST(CheckTime, TakesTheYears1To9999) {
  EXPECT_NO_THROW(check_time(0.0, "time"));
  EXPECT_NO_THROW(check_time(-62135596800.0, "time"));
  EXPECT_NO_THROW(check_time(253402300799.5, "time"));
}

TEST(CheckTime, RefusesMillisecondsAndNaN) {
  const Caught milliseconds = caught([] { check_time(1.7e12, "requests[3].time"); });
  EXPECT_EQ(milliseconds.kind, ErrorKind::kSchema);
  EXPECT_EQ(milliseconds.field, "requests[3].time");
  EXPECT_EQ(milliseconds.message,
            "requests[3].time: expected seconds since 1970-01-01 UTC, got 1.7e+12, which is "
            "outside the years 1 to 9999; divide milliseconds by 1000");
  const Caught nan = caught([] { check_time(std::nan(""), "time"); });
  EXPECT_EQ(nan.kind, ErrorKind::kNumeric);
  EXPECT_EQ(nan.message, "time: expected seconds since 1970-01-01 UTC, got nan");
  EXPECT_EQ(caught([] { check_time(INFINITY, "time"); }).kind, ErrorKind::kNumeric);
}

}  // namespace
}  // namespace hypertower
