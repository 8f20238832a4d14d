#include "model/value.h"

#include <array>
#include <charconv>
#include <cmath>

#include "kernels/error.h"

namespace hypertower {
namespace {

constexpr double kTwoTo63 = 9223372036854775808.0;
constexpr double kYear1 = -62135596800.0;
constexpr double kYear10000 = 253402300800.0;

std::string shortest(double d) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), d).ptr;
  return {buffer.data(), end};
}

}  // namespace

std::optional<std::string> canonical_text(const Value& v) {
  if (const auto* text = std::get_if<std::string>(&v)) return *text;
  if (const auto* integer = std::get_if<int64_t>(&v)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&v)) {
    const double d = *number;
    if (!std::isfinite(d)) return std::nullopt;
    if (std::floor(d) == d && d >= -kTwoTo63 && d < kTwoTo63) {
      return std::to_string(static_cast<int64_t>(d));
    }
    return shortest(d);
  }
  return std::nullopt;
}

std::string_view type_word(const Value& v) {
  constexpr std::array<std::string_view, std::variant_size_v<Value>> kWords = {
      "nothing", "an integer", "a number", "text", "a list of texts", "a list of numbers"};
  return kWords[v.index()];
}

void check_time(double seconds, const std::string& path) {
  if (!std::isfinite(seconds)) {
    throw Error(ErrorKind::kNumeric,
                path + ": expected seconds since 1970-01-01 UTC, got " + shortest(seconds), path);
  }
  if (seconds < kYear1 || seconds >= kYear10000) {
    throw Error(ErrorKind::kSchema,
                path + ": expected seconds since 1970-01-01 UTC, got " + shortest(seconds) +
                    ", which is outside the years 1 to 9999; divide milliseconds by 1000",
                path);
  }
}

}  // namespace hypertower
