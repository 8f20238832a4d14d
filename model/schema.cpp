#include "model/schema.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "kernels/error.h"
#include "model/json.h"

namespace hypertower {
namespace {

using nlohmann::json;

constexpr std::array<Group, 3> kGroups = {Group::kUser, Group::kContext, Group::kItem};
constexpr int64_t kMaxRows = int64_t{1} << 31;
constexpr int64_t kMaxHistory = 4096;

std::string join(const std::string& table, const std::string& key) {
  return table.empty() ? key : table + "." + key;
}

const std::vector<std::string>& kind_words() {
  static const std::vector<std::string> kWords = {"category", "categories", "number", "vector"};
  return kWords;
}

const std::vector<std::string>& part_words() {
  static const std::vector<std::string> kWords = {"hour",  "weekday", "weekend",
                                                  "month", "season",  "day_period"};
  return kWords;
}

template <class Enum>
Enum from_word(const std::vector<std::string>& words, const std::string& word, int first) {
  const auto found = std::find(words.begin(), words.end(), word);
  return static_cast<Enum>(found - words.begin() + first);
}

[[noreturn]] void fail(const ConfigTree& config, const std::string& path,
                       const std::string& problem) {
  throw Error(ErrorKind::kSchema, config.where(path) + ": " + problem, path);
}

bool well_formed(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return (std::isalnum(c) != 0 && c < 128) || c == '_';
  });
}

// The options that a feature of this kind has besides `kind` and `column`.
std::vector<std::string> options_of(FeatureKind kind) {
  switch (kind) {
    case FeatureKind::kCategory:
      return {"min_count", "oov_rows", "vocabulary", "rows", "evict"};
    case FeatureKind::kCategories:
      return {"separator", "min_count", "oov_rows", "vocabulary", "rows", "evict"};
    case FeatureKind::kNumber:
      return {"bins"};
    case FeatureKind::kVector:
      return {"separator", "length"};
  }
  return {};
}

const std::vector<std::string>& eviction_words() {
  static const std::vector<std::string> kWords(std::begin(kEvictionWords),
                                               std::end(kEvictionWords));
  return kWords;
}

void read_vocabulary(const ConfigTree& config, const std::string& table, const std::string& label,
                     Feature& feature) {
  static const std::vector<std::string> kWords = {"fitted", "dynamic"};
  const bool dynamic = config.choice(join(table, "vocabulary"), "fitted", kWords) == "dynamic";
  for (const std::string key : {"rows", "evict"}) {
    if (dynamic || !config.has(join(table, key))) continue;
    fail(config, join(table, key),
         label + ": '" + key + "' is for vocabulary = \"dynamic\"; add that or leave it out.");
  }
  if (!dynamic) return;
  if (!config.has(join(table, "rows"))) {
    fail(config, join(table, "vocabulary"),
         label + ": a dynamic vocabulary needs the size of its table; write rows = 100000, say.");
  }
  feature.dynamic_rows = config.integer(join(table, "rows"), 0, 1, kMaxIdTableRows);
  feature.evict = from_word<Eviction>(
      eviction_words(), config.choice(join(table, "evict"), "none", eviction_words()), 0);
  if (feature.min_count > kMaxAdmitAfter) {
    fail(config, join(table, "min_count"),
         label + ": with a dynamic vocabulary min_count is at most " +
             std::to_string(kMaxAdmitAfter) + ", got " + std::to_string(feature.min_count) + ".");
  }
}

void read_time_part(const ConfigTree& config, const std::string& table, Feature& feature) {
  const std::string from = config.text(join(table, "from"), "");
  const std::string label = std::string(group_word(feature.group)) + "." + feature.name;
  if (from != "time") {
    fail(config, join(table, "from"), label + ": from takes only \"time\", got \"" + from + "\".");
  }
  if (feature.group != Group::kContext) {
    fail(config, join(table, "from"),
         label + ": only a context feature can come from the time; write [context." + feature.name +
             "].");
  }
  if (config.has(join(table, "kind")) && config.text(join(table, "kind"), "") != "category") {
    fail(config, join(table, "kind"),
         label + ": a part of the time is always a category; leave kind out.");
  }
  const bool has_part = config.has(join(table, "part"));
  const std::string part = config.text(join(table, "part"), feature.name);
  const auto& words = part_words();
  if (std::find(words.begin(), words.end(), part) == words.end()) {
    fail(config, join(table, has_part ? "part" : "from"),
         label + ": '" + part + "' is no part of the time" +
             (has_part ? "." : "; add part = \"hour\" or another.") + name_hint(part, words));
  }
  feature.from_time = from_word<TimePart>(words, part, 1);
}

Feature read_feature(const ConfigTree& config, const std::string& table, Group group,
                     const std::string& name) {
  const std::string label = std::string(group_word(group)) + "." + name;
  if (!well_formed(name)) {
    fail(config, table,
         "'" + label + "' is no name for a feature: use letters, digits and underscores.");
  }
  if (group == Group::kItem && (name == "id" || name == "any" || name == "not")) {
    fail(config, table,
         label + ": the names id, any and not are taken; rename it, column = \"" + name +
             "\" still reads that column.");
  }
  std::vector<std::string> known = {"kind",   "column", "separator",  "min_count", "oov_rows",
                                    "length", "bins",   "vocabulary", "rows",      "evict"};
  if (group == Group::kContext || config.has(join(table, "from"))) {
    known.insert(known.end(), {"from", "part"});
  }
  config.check_keys(table, known);

  Feature feature;
  feature.name = name;
  feature.group = group;
  std::vector<std::string> options = {"kind"};
  if (config.has(join(table, "from"))) {
    read_time_part(config, table, feature);
    options.insert(options.end(), {"from", "part", "oov_rows"});
  } else {
    if (!config.has(join(table, "kind"))) {
      fail(config, table,
           label +
               ": kind is missing; write kind = \"category\", \"categories\", \"number\" or "
               "\"vector\".");
    }
    const std::string word = config.choice(join(table, "kind"), "", kind_words());
    feature.kind = from_word<FeatureKind>(kind_words(), word, 0);
    feature.column = config.text(join(table, "column"), name);
    options = options_of(feature.kind);
    options.insert(options.end(), {"kind", "column"});
  }
  for (const std::string& key : known) {
    if (config.has(join(table, key)) &&
        std::find(options.begin(), options.end(), key) == options.end()) {
      const std::string what = feature.from_time != TimePart::kNone
                                   ? "a feature from the time"
                                   : "kind = \"" + std::string(kind_word(feature.kind)) + "\"";
      fail(config, join(table, key),
           label + ": '" + key + "' has no meaning for " + what + "; leave it out.");
    }
  }
  feature.separator = config.text(join(table, "separator"), "");
  feature.min_count = config.integer(join(table, "min_count"), 1, 1, kMaxRows);
  feature.oov_rows = config.integer(join(table, "oov_rows"), 4, 1, kMaxRows);
  read_vocabulary(config, table, label, feature);
  feature.bins = config.integer(join(table, "bins"), 8, 1, 1024);
  if (feature.kind == FeatureKind::kVector) {
    if (!config.has(join(table, "length"))) {
      fail(config, table, label + ": a vector needs its length; write length = 128, say.");
    }
    feature.length = config.integer(join(table, "length"), 0, 1, 1 << 20);
  }
  return feature;
}

// Children of a section in the order in which they were written.
std::vector<std::string> children(const ConfigTree& config, const std::string& table) {
  std::vector<std::pair<int, std::string>> order;
  const auto section = config.root().find(table);
  if (section == config.root().end()) return {};
  if (!section->is_object()) {
    fail(config, table,
         table + ": expected sections [" + table + ".name], got " + json_word(*section));
  }
  for (const auto& [key, value] : section->items()) {
    const std::string path = join(table, key);
    if (!value.is_object()) {
      fail(config, path, path + ": expected a section [" + path + "], got " + json_word(value));
    }
    order.emplace_back(config.line(path), key);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::string> names;
  for (auto& [line, name] : order) names.push_back(std::move(name));
  return names;
}

Columns read_columns(const ConfigTree& config, const std::string& table) {
  static const std::vector<std::string> kKnown = {"user", "item",   "time", "position",
                                                  "kind", "weight", "split"};
  config.check_keys(table, kKnown);
  Columns columns;
  columns.user = config.text(join(table, "user"), columns.user);
  columns.item = config.text(join(table, "item"), columns.item);
  columns.time = config.text(join(table, "time"), "");
  columns.position = config.text(join(table, "position"), "");
  columns.kind = config.text(join(table, "kind"), "");
  columns.weight = config.text(join(table, "weight"), "");
  columns.split = config.text(join(table, "split"), "");
  for (const auto& [key, value] : {std::pair{"user", &columns.user}, {"item", &columns.item}}) {
    if (value->empty()) {
      fail(config, join(table, key), join(table, key) + ": expected the name of a column, got ''.");
    }
  }
  return columns;
}

std::map<std::string, double> read_kinds(const ConfigTree& config, const std::string& table) {
  std::map<std::string, double> weights;
  const auto section = config.root().find(table);
  if (section == config.root().end()) return weights;
  if (!section->is_object()) {
    fail(config, table,
         table + ": expected a section [" + table + "] of kinds and weights, got " +
             json_word(*section));
  }
  for (const auto& [kind, value] : section->items()) {
    const std::string path = join(table, kind);
    if (!value.is_number() || !(value.get<double>() >= 0.0) || value.get<double>() > 1e6) {
      fail(config, path, path + ": expected a weight from 0 to 1000000, got " + json_word(value));
    }
    weights[kind] = value.get<double>();
  }
  return weights;
}

void check_time_column(const ConfigTree& config, const Schema& schema) {
  if (!schema.columns.time.empty()) return;
  for (const Feature& f : schema.features) {
    if (f.from_time == TimePart::kNone) continue;
    fail(config, "context." + f.name + ".from",
         "context." + f.name +
             ": from = \"time\" needs the time of the events; add time = \"...\" to [columns].");
  }
}

// An outcome is known by its column: a feature of any name that reads it would peek ahead.
void check_outcomes(const ConfigTree& config, Schema& schema) {
  for (const std::string& name : children(config, "outcome")) {
    const std::string table = join("outcome", name);
    static const std::vector<std::string> kKnown = {"kind", "column"};
    config.check_keys(table, kKnown);
    const std::string column = config.text(join(table, "column"), name);
    for (const Feature& f : schema.features) {
      if (f.from_time != TimePart::kNone || f.group == Group::kItem) continue;
      if (f.column != column && f.name != name) continue;
      const std::string path = std::string(group_word(f.group)) + "." + f.name;
      fail(config, path,
           path + " reads the outcome '" + column +
               "', which is known only after the event, so it cannot be an input; remove [" + path +
               "] or [" + table + "].");
    }
    schema.outcomes.push_back(name);
  }
}

}  // namespace

std::string_view group_word(Group g) {
  constexpr std::array<std::string_view, 3> kWords = {"user", "context", "item"};
  return kWords[static_cast<size_t>(g)];
}

std::string_view kind_word(FeatureKind k) {
  return kind_words()[static_cast<size_t>(k)];
}

Schema Schema::from_config(const ConfigTree& config) {
  static const std::vector<std::string> kRoot = {"name",    "data",    "columns",  "user",
                                                 "item",    "context", "outcome",  "kinds",
                                                 "history", "model",   "training", "evaluation"};
  config.check_keys("", kRoot);
  Schema schema;
  schema.name = config.text("name", "");
  schema.columns = read_columns(config, "columns");
  for (const Group group : kGroups) {
    const std::string word(group_word(group));
    for (const std::string& name : children(config, word)) {
      schema.features.push_back(read_feature(config, join(word, name), group, name));
    }
  }
  check_time_column(config, schema);
  check_outcomes(config, schema);
  schema.kind_weights = read_kinds(config, "kinds");
  static const std::vector<std::string> kHistory = {"length"};
  config.check_keys("history", kHistory);
  schema.history_length = config.integer("history.length", schema.history_length, 0, kMaxHistory);
  return schema;
}

Schema Schema::from_json(const json& j) {
  const ConfigTree tree = ConfigTree::from_json(j, "schema");
  static const std::vector<std::string> kKnown = {"name",  "columns",  "features",
                                                  "kinds", "outcomes", "history_length"};
  tree.check_keys("", kKnown);
  Schema schema;
  schema.name = tree.text("name", "");
  schema.columns = read_columns(tree, "columns");
  schema.kind_weights = read_kinds(tree, "kinds");
  schema.history_length = tree.integer("history_length", schema.history_length, 0, kMaxHistory);
  const json outcomes = j.value("outcomes", json::array());
  if (!outcomes.is_array()) fail(tree, "outcomes", "outcomes: expected a list of names.");
  for (const json& name : outcomes) schema.outcomes.push_back(id_from_json(name, "outcomes"));

  const json features = j.value("features", json::array());
  if (!features.is_array()) fail(tree, "features", "features: expected a list of features.");
  static const std::vector<std::string> kGroupWords = {"user", "context", "item"};
  for (size_t i = 0; i < features.size(); ++i) {
    ConfigTree one = ConfigTree::from_json(features[i], "features[" + std::to_string(i) + "]");
    const std::string name = one.text("name", "");
    const auto group = from_word<Group>(kGroupWords, one.choice("group", "", kGroupWords), 0);
    json options = features[i];
    options.erase("name");
    options.erase("group");
    const Feature feature =
        read_feature(ConfigTree::from_json(std::move(options), one.name()), "", group, name);
    if (schema.find(group, name) != nullptr) {
      fail(one, "name", std::string(group_word(group)) + "." + name + " comes twice.");
    }
    if (!schema.features.empty() && group < schema.features.back().group) {
      fail(one, "group", "features must come users first, then context, then items.");
    }
    schema.features.push_back(feature);
  }
  check_time_column(tree, schema);
  return schema;
}

json Schema::to_json() const {
  json list = json::array();
  for (const Feature& f : features) {
    json j = {{"name", f.name}, {"group", group_word(f.group)}, {"kind", kind_word(f.kind)}};
    if (f.from_time != TimePart::kNone) {
      j["from"] = "time";
      j["part"] = time_part_word(f.from_time);
      j["oov_rows"] = f.oov_rows;
    } else {
      j["column"] = f.column;
      for (const std::string& key : options_of(f.kind)) {
        if (key == "separator" && !f.separator.empty()) j[key] = f.separator;
        if (key == "min_count") j[key] = f.min_count;
        if (key == "oov_rows") j[key] = f.oov_rows;
        if (key == "vocabulary" && f.dynamic_rows > 0) {
          j[key] = "dynamic";
          j["rows"] = f.dynamic_rows;
          j["evict"] = kEvictionWords[static_cast<size_t>(f.evict)];
        }
        if (key == "length") j[key] = f.length;
        if (key == "bins") j[key] = f.bins;
      }
    }
    list.push_back(std::move(j));
  }
  json names = {{"user", columns.user}, {"item", columns.item}};
  for (const auto& [key, value] : {std::pair{"time", &columns.time},
                                   {"position", &columns.position},
                                   {"kind", &columns.kind},
                                   {"weight", &columns.weight},
                                   {"split", &columns.split}}) {
    if (!value->empty()) names[key] = *value;
  }
  return {{"name", name},         {"columns", std::move(names)},
          {"features", list},     {"kinds", kind_weights},
          {"outcomes", outcomes}, {"history_length", history_length}};
}

std::vector<const Feature*> Schema::group(Group g) const {
  std::vector<const Feature*> members;
  for (const Feature& f : features) {
    if (f.group == g) members.push_back(&f);
  }
  return members;
}

const Feature* Schema::find(Group g, const std::string& name) const {
  for (const Feature& f : features) {
    if (f.group == g && f.name == name) return &f;
  }
  return nullptr;
}

std::vector<std::string> Schema::names(Group g) const {
  std::vector<std::string> names;
  for (const Feature* f : group(g)) names.push_back(f->name);
  return names;
}

}  // namespace hypertower
