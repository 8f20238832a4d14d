// The schema: what the columns of the data mean. Read from the config, copied into the model
// directory; the server and Python learn it only there. A plain value type, thread-safe to share.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/id_table.h"
#include "model/config_tree.h"

namespace hypertower {

enum class Group : uint8_t { kUser, kContext, kItem };
enum class FeatureKind : uint8_t { kCategory, kCategories, kNumber, kVector };

// Calendar parts of an event's time (UTC), each a category with all its values known beforehand:
// hour 0-23, weekday 0-6 (0 = Monday), weekend 0/1, month 1-12, season 0-3 (0 = Dec-Feb),
// day_period 0-3 (night 0-5, morning 6-11, afternoon 12-17, evening 18-23).
enum class TimePart : uint8_t { kNone, kHour, kWeekday, kWeekend, kMonth, kSeason, kDayPeriod };

struct Feature {
  std::string name;  // [A-Za-z0-9_]+, unique within its group; "id", "any" and "not"
                     // are taken in the item group
  Group group = Group::kUser;
  FeatureKind kind = FeatureKind::kCategory;
  std::string column;                    // column in the data; default: the name
  std::string separator;                 // categories or vector given as text: "|"; empty = a list
  TimePart from_time = TimePart::kNone;  // context only: derived from the event's time unless given
  int64_t min_count = 1;                 // rarer values share the hashed out-of-vocabulary rows
  int64_t oov_rows = 4;                  // hashed rows for unknown values, >= 1
  // vocabulary = "dynamic": values get one of so many rows as they come in training. 0: the rows
  // are those of the values of the training data, counted beforehand.
  int64_t dynamic_rows = 0;
  Eviction evict = Eviction::kNone;  // what a full dynamic vocabulary does
  int64_t length = 0;                // kVector: its length
  int64_t bins = 8;                  // kNumber: pieces of the piecewise-linear encoding
};

struct Columns {
  std::string user = "user_id";
  std::string item = "item_id";
  std::string time;      // empty = no time
  std::string position;  // order of events without time; empty = order of the rows
  std::string kind;      // empty = one kind
  std::string weight;    // per-event weight; empty = 1
  std::string split;     // for data.split = "given": train | valid | test
};

struct Schema {
  std::string name;
  Columns columns;
  std::vector<Feature> features;               // users, then context, then items; as written
  std::map<std::string, double> kind_weights;  // [kinds]; absent kinds weigh 1
  std::vector<std::string> outcomes;           // known only after the event: refused as inputs
  int64_t history_length = 50;  // events of a person that the query tower reads; where a config
                                // leaves it open, training decides

  // Errors (kSchema): unknown keys or kinds (nearest name), an outcome column used as an input,
  // `from` without a time column, duplicate or malformed names; each with file and line.
  static Schema from_config(const ConfigTree& config);
  static Schema from_json(const nlohmann::json& j);  // as written by to_json
  nlohmann::json to_json() const;

  std::vector<const Feature*> group(Group g) const;
  const Feature* find(Group g, const std::string& name) const;  // nullptr when unknown
  std::vector<std::string> names(Group g) const;
};

std::string_view group_word(Group g);         // "user", "context", "item"
std::string_view kind_word(FeatureKind k);    // "category", ...
std::string_view time_part_word(TimePart p);  // "hour", ...
// The part's value for a time in seconds since 1970 UTC. REQUIRES: a time that check_time passes.
int64_t time_part(TimePart p, double seconds);
// All values of a part as text, ascending.
std::vector<std::string> time_part_values(TimePart p);

}  // namespace hypertower
