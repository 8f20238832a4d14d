#include <array>
#include <cmath>

#include "model/schema.h"

namespace hypertower {
namespace {

constexpr int64_t kSecondsPerDay = 86400;

struct Range {
  int64_t first;
  int64_t last;
};

Range values_of(TimePart p) {
  switch (p) {
    case TimePart::kHour:
      return {0, 23};
    case TimePart::kWeekday:
      return {0, 6};
    case TimePart::kWeekend:
      return {0, 1};
    case TimePart::kMonth:
      return {1, 12};
    case TimePart::kSeason:
      return {0, 3};
    case TimePart::kDayPeriod:
      return {0, 3};
    case TimePart::kNone:
      break;
  }
  return {0, -1};
}

// Month 1-12 of a day counted from 1970-01-01 in the Gregorian calendar. Years start in March here,
// which puts the leap day last; 400 years are 146,097 days.
int64_t month_of(int64_t day) {
  constexpr int64_t kDaysFromMarch1Year0 = 719468;
  constexpr int64_t kDaysPer400Years = 146097;
  const int64_t shifted = day + kDaysFromMarch1Year0;
  const int64_t era =
      (shifted >= 0 ? shifted : shifted - (kDaysPer400Years - 1)) / kDaysPer400Years;
  const int64_t day_of_era = shifted - era * kDaysPer400Years;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year =
      day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t month_from_march = (5 * day_of_year + 2) / 153;
  return month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
}

}  // namespace

std::string_view time_part_word(TimePart p) {
  constexpr std::array<std::string_view, 7> kWords = {"none",  "hour",   "weekday",   "weekend",
                                                      "month", "season", "day_period"};
  return kWords[static_cast<size_t>(p)];
}

int64_t time_part(TimePart p, double seconds) {
  const auto whole = static_cast<int64_t>(std::floor(seconds));
  int64_t day = whole / kSecondsPerDay;
  int64_t second = whole % kSecondsPerDay;
  if (second < 0) {
    second += kSecondsPerDay;
    --day;
  }
  const int64_t hour = second / 3600;
  const int64_t weekday = ((day + 3) % 7 + 7) % 7;  // 1970-01-01 was a Thursday
  switch (p) {
    case TimePart::kHour:
      return hour;
    case TimePart::kWeekday:
      return weekday;
    case TimePart::kWeekend:
      return weekday >= 5 ? 1 : 0;
    case TimePart::kMonth:
      return month_of(day);
    case TimePart::kSeason:
      return month_of(day) % 12 / 3;
    case TimePart::kDayPeriod:
      return hour / 6;
    case TimePart::kNone:
      break;
  }
  return 0;
}

std::vector<std::string> time_part_values(TimePart p) {
  std::vector<std::string> values;
  const Range range = values_of(p);
  for (int64_t v = range.first; v <= range.last; ++v) values.push_back(std::to_string(v));
  return values;
}

}  // namespace hypertower
