// Appends JSON to a string. Answers are written straight from our structures: no tree in between.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace hypertower {

class JsonWriter {
 public:
  // Appends to `out`, which must outlive the writer.
  explicit JsonWriter(std::string& out) : out_(out) {}

  JsonWriter& raw(std::string_view json) {
    out_ += json;
    return *this;
  }
  // Quoted and escaped; bytes that are not UTF-8 become U+FFFD, so that every answer is JSON.
  JsonWriter& text(std::string_view s);
  JsonWriter& integer(int64_t v) { return number(v); }
  // Shortest text that reads back as the same float; NaN and infinity become null.
  JsonWriter& real(float v) { return std::isfinite(v) ? number(v) : raw("null"); }
  JsonWriter& real(double v) { return std::isfinite(v) ? number(v) : raw("null"); }
  // As it came in: a bare integer when `integers` and the text is the decimal form of one.
  JsonWriter& id(std::string_view id, bool integers);

 private:
  template <class T>
  JsonWriter& number(T v) {
    char digits[32];
    const auto end = std::to_chars(digits, digits + sizeof digits, v).ptr;
    out_.append(digits, end);
    return *this;
  }

  std::string& out_;
};

}  // namespace hypertower
