#include "model/json.h"

#include <charconv>
#include <cmath>
#include <utility>

#include "kernels/error.h"

namespace hypertower {
namespace {

using nlohmann::json;

constexpr int kMaxFilterDepth = 256;
constexpr int64_t kTwoTo53 = int64_t{1} << 53;

std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

std::string at(const std::string& path, size_t i) {
  return path + "[" + std::to_string(i) + "]";
}

[[noreturn]] void fail(const std::string& path, const std::string& expected, const json& found) {
  const std::string& place = path.empty() ? "the body" : path;
  throw Error(ErrorKind::kSchema, place + ": expected " + expected + ", got " + json_word(found),
              path);
}

bool is_known(const std::string& key, std::span<const std::string> known) {
  for (const std::string& k : known) {
    if (k == key) return true;
  }
  return false;
}

// Keys in neither list are refused.
void check_keys(const json& j, const std::string& path, const std::vector<std::string>& known,
                std::span<const std::string> also = {}) {
  if (!j.is_object()) fail(path, "an object", j);
  for (const auto& [key, value] : j.items()) {
    if (is_known(key, known) || is_known(key, also)) continue;
    std::vector<std::string> all = known;
    all.insert(all.end(), also.begin(), also.end());
    throw Error(ErrorKind::kSchema, join(path, key) + ": unknown field." + name_hint(key, all),
                join(path, key));
  }
}

const json* member(const json& j, const char* key) {
  const auto found = j.find(key);
  return found == j.end() || found->is_null() ? nullptr : &*found;
}

std::optional<double> time_from_json(const json& j, const std::string& path) {
  if (!j.is_number()) fail(path, "seconds since 1970-01-01 UTC as a number", j);
  const double seconds = j.get<double>();
  check_time(seconds, path);
  return seconds;
}

Record record_from_json(const json& j, const std::string& path) {
  if (!j.is_object()) fail(path, "an object of fields and values", j);
  Record record;
  record.reserve(j.size());
  for (const auto& [key, value] : j.items()) {
    record.emplace_back(key, value_from_json(value, join(path, key)));
  }
  return record;
}

json record_to_json(const Record& record) {
  json object = json::object();
  for (const auto& [name, value] : record) object[name] = value_to_json(value);
  return object;
}

std::string scalar_text(const json& j, const std::string& path) {
  if (j.is_string()) return j.get<std::string>();
  if (j.is_boolean()) return j.get<bool>() ? "true" : "false";
  if (j.is_number_unsigned()) return std::to_string(j.get<uint64_t>());
  if (j.is_number_integer()) return std::to_string(j.get<int64_t>());
  if (j.is_number_float()) {
    if (auto text = canonical_text(j.get<double>())) return *std::move(text);
    throw Error(ErrorKind::kNumeric, path + ": expected a finite number, got " + json_word(j),
                path);
  }
  fail(path, "text or a number", j);
}

Value list_from_json(const json& j, const std::string& path) {
  bool exact_numbers = !j.empty();
  for (const json& element : j) {
    exact_numbers = exact_numbers && element.is_number();
    if (element.is_number_unsigned()) {
      exact_numbers = exact_numbers && element.get<uint64_t>() <= uint64_t{kTwoTo53};
    } else if (element.is_number_integer()) {
      exact_numbers = exact_numbers && element.get<int64_t>() >= -kTwoTo53;
    }
  }
  if (exact_numbers) return j.get<std::vector<double>>();
  std::vector<std::string> texts;
  texts.reserve(j.size());
  for (size_t i = 0; i < j.size(); ++i) texts.push_back(scalar_text(j[i], at(path, i)));
  return texts;
}

double bound_from_json(const json& j, const std::string& path) {
  if (!j.is_number()) fail(path, "a number", j);
  const double value = j.get<double>();
  if (!std::isfinite(value)) {
    throw Error(ErrorKind::kNumeric, path + ": expected a finite number, got " + json_word(j),
                path);
  }
  return value;
}

Filter condition(const std::string& field, const json& j, const std::string& path) {
  Filter filter;
  filter.field = field;
  if (j.is_object()) {
    static const std::vector<std::string> kBounds = {"min", "max"};
    check_keys(j, path, kBounds);
    filter.op = Filter::Op::kRange;
    if (const json* min = member(j, "min")) filter.min = bound_from_json(*min, path + ".min");
    if (const json* max = member(j, "max")) filter.max = bound_from_json(*max, path + ".max");
    if (!filter.min && !filter.max) fail(path, "min, max or both", j);
    return filter;
  }
  filter.op = Filter::Op::kOneOf;
  if (!j.is_array()) {
    filter.values.push_back(scalar_text(j, path));
    return filter;
  }
  for (size_t i = 0; i < j.size(); ++i) filter.values.push_back(scalar_text(j[i], at(path, i)));
  return filter;
}

// One object where no key comes twice; else, as an object cannot say `a and b` about one key,
// not (not a or not b).
json conjunction(const std::vector<Filter>& children) {
  json object = json::object();
  bool distinct = true;
  for (const Filter& child : children) {
    const json part = filter_to_json(child);
    for (const auto& [key, value] : part.items()) {
      distinct = object.emplace(key, value).second && distinct;
    }
  }
  if (distinct) return object;
  json negated = json::array();
  for (const Filter& child : children) negated.push_back({{"not", filter_to_json(child)}});
  return {{"not", {{"any", std::move(negated)}}}};
}

Filter parse_filter(const json& j, const std::string& path, int depth) {
  if (depth > kMaxFilterDepth) {
    throw Error(
        ErrorKind::kSchema,
        "where: nested deeper than " + std::to_string(kMaxFilterDepth) + " levels; flatten it",
        "where");
  }
  if (!j.is_object()) fail(path, "an object of fields and conditions", j);
  Filter all;
  for (const auto& [key, value] : j.items()) {
    const std::string here = join(path, key);
    if (key == "not") {
      Filter inner = parse_filter(value, here, depth + 1);
      inner.op = Filter::Op::kNot;
      all.children.push_back(std::move(inner));
    } else if (key == "any") {
      if (!value.is_array()) fail(here, "a list of objects", value);
      Filter any;
      any.op = Filter::Op::kAny;
      for (size_t i = 0; i < value.size(); ++i) {
        any.children.push_back(parse_filter(value[i], at(here, i), depth + 1));
      }
      all.children.push_back(std::move(any));
    } else {
      all.children.push_back(condition(key, value, here));
    }
  }
  return all;
}

}  // namespace

std::string json_word(const json& j) {
  constexpr size_t kMaxShown = 40;
  switch (j.type()) {
    case json::value_t::null:
      return "nothing";
    case json::value_t::array:
      return j.empty() ? "an empty list" : "a list";
    case json::value_t::object:
      return j.empty() ? "an empty object" : "an object";
    case json::value_t::number_float: {
      const double d = j.get<double>();
      if (!std::isfinite(d)) return std::isnan(d) ? "nan" : d > 0 ? "inf" : "-inf";
      return j.dump();
    }
    case json::value_t::string: {
      const auto& text = j.get_ref<const std::string&>();
      return "text '" + (text.size() > kMaxShown ? text.substr(0, kMaxShown) + "..." : text) + "'";
    }
    default:
      return j.dump();
  }
}

Value value_from_json(const json& j, const std::string& path) {
  if (j.is_null()) return {};
  if (j.is_array()) return list_from_json(j, path);
  if (j.is_number_unsigned() && j.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return std::to_string(j.get<uint64_t>());
  }
  if (j.is_number_integer()) return j.get<int64_t>();
  if (j.is_number_float()) return j.get<double>();
  return scalar_text(j, path);
}

json value_to_json(const Value& value) {
  return std::visit(
      [](const auto& v) -> json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) {
          return nullptr;
        } else {
          return v;
        }
      },
      value);
}

std::string id_from_json(const json& j, const std::string& path) {
  // 3.0 is 3, as a column of floats or a language without integers sends it; 3.5 is a mistake.
  const double number = j.is_number_float() ? j.get<double>() : 0.0;
  const bool fraction = std::isfinite(number) && std::trunc(number) != number;
  if (j.is_string() || (j.is_number() && !fraction)) {
    std::string id = scalar_text(j, path);
    if (!id.empty()) return id;
  }
  fail(path, "an id (text or an integer)", j);
}

json id_to_json(const std::string& id, bool integers) {
  int64_t value = 0;
  if (integers) {
    const char* const end = id.data() + id.size();
    const auto parsed = std::from_chars(id.data(), end, value);
    if (parsed.ec == std::errc() && parsed.ptr == end) return value;
  }
  return id;
}

HistoryEvent history_event_from_json(const json& j, const std::string& path) {
  static const std::vector<std::string> kKeys = {"item", "kind", "time", "context"};
  check_keys(j, path, kKeys);
  HistoryEvent event;
  const json* item = member(j, "item");
  if (item == nullptr) fail(join(path, "item"), "an id (text or an integer)", nullptr);
  event.item = id_from_json(*item, join(path, "item"));
  if (const json* kind = member(j, "kind")) {
    if (!kind->is_string()) fail(join(path, "kind"), "text", *kind);
    event.kind = kind->get<std::string>();
  }
  if (const json* time = member(j, "time")) {
    event.time = time_from_json(*time, join(path, "time"));
  }
  if (const json* context = member(j, "context")) {
    event.context = record_from_json(*context, join(path, "context"));
  }
  return event;
}

json history_event_to_json(const HistoryEvent& event) {
  json j = {{"item", event.item}};
  if (!event.kind.empty()) j["kind"] = event.kind;
  if (event.time) j["time"] = *event.time;
  if (!event.context.empty()) j["context"] = record_to_json(event.context);
  return j;
}

Event event_from_json(const json& j, const std::string& path) {
  static const std::vector<std::string> kKeys = {"user", "item", "kind", "time", "context", "id"};
  check_keys(j, path, kKeys);
  Event event;
  const json* user = member(j, "user");
  if (user == nullptr) fail(join(path, "user"), "an id (text or an integer)", nullptr);
  event.user = id_from_json(*user, join(path, "user"));
  if (const json* id = member(j, "id")) event.id = id_from_json(*id, join(path, "id"));
  json what = j;
  what.erase("user");
  what.erase("id");
  event.what = history_event_from_json(what, path);
  return event;
}

Filter filter_from_json(const json& j, const std::string& path) {
  return parse_filter(j, path, 1);
}

json filter_to_json(const Filter& filter) {
  switch (filter.op) {
    case Filter::Op::kAll:
      return conjunction(filter.children);
    case Filter::Op::kNot:
      return {{"not", conjunction(filter.children)}};
    case Filter::Op::kAny: {
      json list = json::array();
      for (const Filter& child : filter.children) list.push_back(filter_to_json(child));
      return {{"any", std::move(list)}};
    }
    case Filter::Op::kOneOf:
      return {{filter.field, filter.values}};
    case Filter::Op::kRange:
      break;
  }
  json range = json::object();
  if (filter.min) range["min"] = *filter.min;
  if (filter.max) range["max"] = *filter.max;
  return {{filter.field, std::move(range)}};
}

Request request_from_json(const json& j, std::span<const std::string> also_allowed,
                          const std::string& path) {
  static const std::vector<std::string> kKeys = {"user",    "time",  "context", "features",
                                                 "history", "where", "exclude"};
  check_keys(j, path, kKeys, also_allowed);
  Request request;
  request.place = path;
  if (const json* user = member(j, "user")) request.user = id_from_json(*user, join(path, "user"));
  if (const json* time = member(j, "time")) {
    request.time = time_from_json(*time, join(path, "time"));
  }
  if (const json* context = member(j, "context")) {
    request.context = record_from_json(*context, join(path, "context"));
  }
  if (const json* features = member(j, "features")) {
    request.features = record_from_json(*features, join(path, "features"));
  }
  if (const json* history = member(j, "history")) {
    const std::string here = join(path, "history");
    if (!history->is_array()) fail(here, "a list of events, oldest first", *history);
    auto& events = request.history.emplace();
    events.reserve(history->size());
    for (size_t i = 0; i < history->size(); ++i) {
      events.push_back(history_event_from_json((*history)[i], at(here, i)));
    }
  }
  if (const json* where = member(j, "where")) {
    request.where = filter_from_json(*where, join(path, "where"));
  }
  if (const json* exclude = member(j, "exclude")) {
    const std::string here = join(path, "exclude");
    if (!exclude->is_array()) fail(here, "a list of item ids", *exclude);
    for (size_t i = 0; i < exclude->size(); ++i) {
      request.exclude.push_back(id_from_json((*exclude)[i], at(here, i)));
    }
  }
  return request;
}

json request_to_json(const Request& request) {
  json j = json::object();
  if (request.user) j["user"] = *request.user;
  if (request.time) j["time"] = *request.time;
  if (!request.context.empty()) j["context"] = record_to_json(request.context);
  if (!request.features.empty()) j["features"] = record_to_json(request.features);
  if (request.history) {
    json events = json::array();
    for (const HistoryEvent& event : *request.history) {
      events.push_back(history_event_to_json(event));
    }
    j["history"] = std::move(events);
  }
  if (request.where) j["where"] = filter_to_json(*request.where);
  if (!request.exclude.empty()) j["exclude"] = request.exclude;
  return j;
}

}  // namespace hypertower
