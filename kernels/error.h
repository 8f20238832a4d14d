// Errors of the whole project. A caller's mistake is an `Error` with one sentence that says what
// was expected, what came, where, and the cure; an impossible state is an assert; an expected
// absence (no such item) is a value. Thread-safety: everything here is pure.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace hypertower {

// What kind of mistake it was; the server maps it to an HTTP status, Python to an exception class.
enum class ErrorKind {
  kArgument,  // a value out of range, a shape that does not fit
  kSchema,    // an unknown field, a wrong type: request or data against the schema
  kData,      // a file or table with a broken cell, column or encoding
  kModel,     // a model directory that is missing, edited, truncated or of another version
  kIo,        // the operating system said no: disk full, permission, port taken
  kNumeric,   // NaN or infinity where a number was needed
};

class Error : public std::runtime_error {
 public:
  // `field` is the dotted path of the offending field ("context.hour", "training.lr"), if any.
  explicit Error(ErrorKind kind, const std::string& message, std::string field = {})
      : std::runtime_error(message), kind_(kind), field_(std::move(field)) {}
  ErrorKind kind() const noexcept { return kind_; }
  const std::string& field() const noexcept { return field_; }

 private:
  ErrorKind kind_;
  std::string field_;
};

// Smallest edit distance (Damerau-Levenshtein, case-insensitive, the first of equals); empty when
// nothing is near, that is within a third of the letters of `name`, at least one.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

// " Did you mean 'hour'?" or, when nothing is near, " Known: a, b, c." (at most 12 names, then
// " and 5 more."); empty without candidates.
std::string name_hint(std::string_view name, std::span<const std::string> candidates);

}  // namespace hypertower
