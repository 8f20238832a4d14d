// One cell of data as people send it: from a JSON request, a Python dict or an Arrow column. Every
// source is turned into a `Value` first and from there on runs through the same code, so training
// and serving cannot drift apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace hypertower {

// monostate = missing (null, empty cell, NaN in a text column). Booleans come as "true" / "false".
using Value = std::variant<std::monostate, int64_t, double, std::string, std::vector<std::string>,
                           std::vector<double>>;

// Field name -> value, in the order given. Small: linear search beats a map here.
using Record = std::vector<std::pair<std::string, Value>>;

inline bool is_missing(const Value& v) {
  return std::holds_alternative<std::monostate>(v);
}

// The text that vocabularies and ids compare: integers in decimal, doubles without a fraction as
// integers ("1995.0" from a float column equals 1995), other doubles in shortest form, text as it
// is. Missing, lists, NaN and infinity: nullopt.
std::optional<std::string> canonical_text(const Value& v);

// The word for the type in messages: "an integer", "text", "a list of numbers", "nothing".
std::string_view type_word(const Value& v);

// Throws Error(kNumeric) for a time that is not finite and Error(kSchema) for one outside the years
// 1 to 9999 (milliseconds given for seconds, mostly). `path` is the field's, for the message.
void check_time(double seconds, const std::string& path);

// ---- what people send -------------------------------------------------------------------------

struct HistoryEvent {
  std::string item;
  std::string kind;            // empty = none given
  std::optional<double> time;  // seconds since 1970-01-01 UTC
  Record context;
};

struct Event {
  std::string user;
  HistoryEvent what;
  std::string id;  // for de-duplication; empty = none
};

// `where` as a tree; see product documentation: several fields = and, a list = one of,
// {"min", "max"} for numbers, "not", "any". Compiled against a catalogue by ItemIndex::compile.
struct Filter {
  enum class Op { kAll, kAny, kNot, kOneOf, kRange };
  Op op = Op::kAll;
  std::vector<Filter> children;     // kAll, kAny, kNot (not of the and of the children)
  std::string field;                // kOneOf, kRange
  std::vector<std::string> values;  // kOneOf, canonical text
  std::optional<double> min, max;   // kRange, inclusive

  bool operator==(const Filter&) const = default;
};

struct Request {
  std::optional<std::string> user;
  std::optional<double> time;  // seconds; nullopt = now
  Record context;              // any subset of the schema's context features
  Record features;             // user features given or overridden for this request
  std::optional<std::vector<HistoryEvent>> history;  // oldest first; replaces the stored one
  std::optional<Filter> where;
  std::vector<std::string> exclude;  // item ids
  // Where it stands in what was sent, for messages: "requests[3]"; empty when it stands alone.
  std::string place = {};
};

}  // namespace hypertower
