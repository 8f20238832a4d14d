#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "model/schema.h"

namespace hypertower {
namespace {

double at(int year, unsigned month, unsigned day, int hour = 0, int minute = 0) {
  using namespace std::chrono;
  const sys_days date{std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(day)};
  return static_cast<double>((date.time_since_epoch() + hours(hour) + minutes(minute)) /
                             seconds(1));
}

TEST(TimePart, TheFirstSecondOf1970) {
  EXPECT_EQ(time_part(TimePart::kHour, 0.0), 0);
  EXPECT_EQ(time_part(TimePart::kWeekday, 0.0), 3);  // Thursday
  EXPECT_EQ(time_part(TimePart::kWeekend, 0.0), 0);
  EXPECT_EQ(time_part(TimePart::kMonth, 0.0), 1);
  EXPECT_EQ(time_part(TimePart::kSeason, 0.0), 0);
  EXPECT_EQ(time_part(TimePart::kDayPeriod, 0.0), 0);
}

TEST(TimePart, JustBefore1970) {
  for (const double second : {-1.0, -0.25}) {  // 1969-12-31 23:59:59
    EXPECT_EQ(time_part(TimePart::kHour, second), 23);
    EXPECT_EQ(time_part(TimePart::kWeekday, second), 2);
    EXPECT_EQ(time_part(TimePart::kMonth, second), 12);
    EXPECT_EQ(time_part(TimePart::kDayPeriod, second), 3);
  }
}

TEST(TimePart, LeapDays) {
  EXPECT_EQ(time_part(TimePart::kMonth, at(2000, 2, 29)), 2);  // divisible by 400: leap
  EXPECT_EQ(time_part(TimePart::kMonth, at(1900, 2, 28, 23) + 3600.0), 3);  // by 100: not leap
  EXPECT_EQ(time_part(TimePart::kMonth, at(2024, 2, 29, 23, 59)), 2);
  EXPECT_EQ(time_part(TimePart::kMonth, at(2024, 2, 29, 23, 59) + 60.0), 3);
}

TEST(TimePart, SeasonsAndDayPeriods) {
  EXPECT_EQ(time_part(TimePart::kSeason, at(2024, 12, 1)), 0);
  EXPECT_EQ(time_part(TimePart::kSeason, at(2024, 2, 29)), 0);
  EXPECT_EQ(time_part(TimePart::kSeason, at(2024, 3, 1)), 1);
  EXPECT_EQ(time_part(TimePart::kSeason, at(2024, 8, 31)), 2);
  EXPECT_EQ(time_part(TimePart::kSeason, at(2024, 11, 30)), 3);
  EXPECT_EQ(time_part(TimePart::kDayPeriod, at(2024, 1, 1, 5, 59)), 0);
  EXPECT_EQ(time_part(TimePart::kDayPeriod, at(2024, 1, 1, 6)), 1);
  EXPECT_EQ(time_part(TimePart::kDayPeriod, at(2024, 1, 1, 12)), 2);
  EXPECT_EQ(time_part(TimePart::kDayPeriod, at(2024, 1, 1, 18)), 3);
}

// Against the calendar of the standard library, over 9,998 years in uneven steps.
TEST(TimePart, EqualsTheStandardCalendar) {
  using namespace std::chrono;
  int64_t checked = 0;
  for (double second = at(1, 1, 1); second < at(9999, 12, 31); second += 86400.0 * 17.7 + 3599.0) {
    const sys_seconds time{seconds(static_cast<int64_t>(std::floor(second)))};
    const sys_days date = floor<days>(time);
    const year_month_day calendar(date);
    ASSERT_EQ(time_part(TimePart::kMonth, second), unsigned(calendar.month())) << second;
    const auto weekday_number = static_cast<int64_t>(weekday(date).iso_encoding()) - 1;
    ASSERT_EQ(time_part(TimePart::kWeekday, second), weekday_number) << second;
    ASSERT_EQ(time_part(TimePart::kWeekend, second), weekday_number >= 5) << second;
    ASSERT_EQ(time_part(TimePart::kHour, second), floor<hours>(time - date).count()) << second;
    ++checked;
  }
  EXPECT_GT(checked, 200'000);
}

TEST(TimePart, ValuesListEveryValue) {
  EXPECT_EQ(time_part_values(TimePart::kHour).size(), 24U);
  EXPECT_EQ(time_part_values(TimePart::kHour).front(), "0");
  EXPECT_EQ(time_part_values(TimePart::kHour).back(), "23");
  EXPECT_EQ(time_part_values(TimePart::kMonth).front(), "1");
  EXPECT_EQ(time_part_values(TimePart::kMonth).size(), 12U);
  EXPECT_EQ(time_part_values(TimePart::kWeekday).size(), 7U);
  EXPECT_EQ(time_part_values(TimePart::kWeekend).size(), 2U);
  EXPECT_EQ(time_part_values(TimePart::kSeason).size(), 4U);
  EXPECT_EQ(time_part_values(TimePart::kDayPeriod).size(), 4U);
  EXPECT_TRUE(time_part_values(TimePart::kNone).empty());
}

}  // namespace
}  // namespace hypertower
