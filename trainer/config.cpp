#include "trainer/config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <sstream>
#include <utility>

#include "kernels/error.h"
#include "trainer/text.h"
#include "trainer/train.h"

namespace hypertower {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// What a value may be: a number between `low` and `high`, or one of the words.
struct Limits {
  double low = -kNoLimit;
  double high = kNoLimit;
  std::vector<std::string> words = {};
};

const Limits kAny{};
const Limits kCount{.low = 0};
const Limits kPositive{.low = 1};
const Limits kShare{.low = 0, .high = 0.95};

// The table of fields. A visitor is called as visit(key, value, limits, help).
template <class Config, class Visitor>
void visit_data(Config& c, Visitor&& visit) {
  visit("events", c.events, kAny, "event log: file or glob, CSV, CSV.gz or Parquet");
  visit("items", c.items, kAny, "item features, one row per item");
  visit("users", c.users, kAny, "user features, one row per user");
  visit("valid", c.valid, kAny, "events to stop early by, with split = \"given\"");
  visit("test", c.test, kAny, "events to report on, with split = \"given\"");
  visit("separator", c.separator, kAny, "between the columns of CSV files");
  visit("split", c.split, Limits{.words = {"time", "last", "random", "given"}},
        "time: the latest events are held out; last: each user's last two; random: a part of each "
        "user's, for events in no order; given: files or a column");
  visit("valid_fraction", c.valid_fraction, Limits{.low = 0, .high = 0.5},
        "of the events, with split = \"time\" or \"random\", held out to stop early by");
  visit("test_fraction", c.test_fraction, Limits{.low = 0, .high = 0.5},
        "of the events, with split = \"time\" or \"random\", held out to report on");
  visit("sessions", c.sessions, kAny,
        "user ids name sessions: the same id in another file is somebody else");
  visit("unknown_items", c.unknown_items, Limits{.words = {"keep", "drop"}},
        "events whose item the items file lacks");
}

template <class Config, class Visitor>
void visit_training(Config& c, Visitor&& visit) {
  visit("loss", c.loss, Limits{.words = {"auto", "full_softmax", "sampled_softmax"}},
        "auto: full_softmax up to full_softmax_items items, else sampled_softmax");
  visit("full_softmax_items", c.full_softmax_items, kPositive,
        "catalogue size where auto switches");
  visit("negatives", c.negatives, Limits{.low = -1},
        "uniform negatives a batch beside the in-batch ones (sampled_softmax; both with logQ); -1: "
        "1024, for sets 4096");
  visit("hard_negatives", c.hard_negatives, kCount,
        "best items of each event, by the towers themselves, beside those (sampled_softmax)");
  visit("epochs", c.epochs, kCount,
        "at most, the learning rate falls over all of them; 0: 10, for a transformer so many that "
        "there are 3 sqrt(events) steps, for sets 2500 steps");
  visit("patience", c.patience, Limits{.low = -1},
        "epochs without a better validation ranking before stopping; -1: a fifth of the epochs, at "
        "least 2");
  visit("batch_size", c.batch_size, kCount,
        "events per step; 0: a hundredth of the events, between 32 and 512. Of a transformer "
        "tokens; 0: 1024, from 300000 events on 2048. Of sets people; 0: 256");
  visit("lr", c.lr, Limits{.low = 0, .high = 1},
        "AdamW, dense layers; 0: 0.001, for a transformer 0.002, for sets 0.01");
  visit("table_optimizer", c.table_optimizer, Limits{.words = {"auto", "adagrad", "adam"}},
        "of embedding tables: row-wise Adagrad, or Adam of the rows that a step touches; auto: "
        "adam for a transformer and sets");
  visit("table_lr", c.table_lr, Limits{.low = 0, .high = 10},
        "of the embedding tables; 0: 0.05 with adagrad, lr with adam");
  visit("weight_decay", c.weight_decay, Limits{.low = -1, .high = 10},
        "decoupled, on matrices; -1: 0.1, for a transformer and sets 0");
  visit("warmup_steps", c.warmup_steps, kCount, "steps over which the learning rates rise");
  visit("dropout", c.dropout, Limits{.low = -1, .high = 0.95},
        "on the pooled history or in the transformer; -1: 0.2, for a transformer 0.1, or 0.3 "
        "where there are fewer than 50 events an item");
  visit("user_dropout", c.user_dropout, kShare,
        "chance that a user feature is missing in training");
  visit("context_dropout", c.context_dropout, kShare, "chance that a context feature is missing");
  visit("moment_dropout", c.moment_dropout, kShare, "chance that the whole context is missing");
  visit("item_start", c.item_start, Limits{.words = {"svd", "random"}},
        "first item vectors: from which items follow each other, or noise");
  visit("start_scale", c.start_scale, Limits{.low = 1e-6, .high = 10},
        "standard deviation of the first item vectors");
  visit("followers", c.followers, Limits{.words = {"auto", "off"}},
        "raise items that follow the latest ones; auto: as strongly as validation events ask for");
  visit("habits", c.habits, Limits{.words = {"auto", "off"}},
        "raise what people did at such moments; auto: where repeats are usual and it helps");
  visit("refit", c.refit, Limits{.words = {"auto", "true", "false"}},
        "once measured, train what is exported again for the best number of epochs on all events "
        "(but those of a given test); auto: where at least 2 % were held out");
  visit("seed", c.seed, kCount, "same seed, same machine: same bits");
  visit("threads", c.threads, kCount, "CPU threads, 0 = one per core");
  visit("device", c.device, Limits{.words = {"auto", "cpu", "cuda"}}, "auto: CUDA when available");
}

template <class Config, class Visitor>
void visit_evaluation(Config& c, Visitor&& visit) {
  visit("k", c.k, kPositive, "list lengths of the metrics");
  visit("exclude_seen", c.exclude_seen, Limits{.words = {"auto", "true", "false"}},
        "leave out what the user has had; auto: when repeats are rarer than 1 %");
  visit("valid_rows", c.valid_rows, kCount, "validation events looked at each epoch, 0 = all");
  visit("baselines", c.baselines, kAny, "measure popularity, recent popularity and item-kNN too");
}

template <class Config, class F>
void visit_sections(Config& c, F&& section) {
  section("data", [&](auto&& visit) { visit_data(c.data, visit); });
  section("training", [&](auto&& visit) { visit_training(c.training, visit); });
  section("evaluation", [&](auto&& visit) { visit_evaluation(c.evaluation, visit); });
}

void check_range(const ConfigTree& config, const std::string& path, double x,
                 const Limits& limits) {
  if (std::isfinite(x) && x >= limits.low && x <= limits.high) return;
  const std::string range = limits.high == kNoLimit
                                ? concat("at least ", limits.low)
                                : concat("between ", limits.low, " and ", limits.high);
  throw Error(ErrorKind::kSchema,
              concat(config.where(path), ": ", path, " must be ", range, ", got ", x, "."), path);
}

// Reads one field from the config, leaving the default where the key is absent.
struct Reader {
  const ConfigTree& config;
  std::string section;

  void operator()(const char* key, double& value, const Limits& limits, const char*) const {
    const std::string path = section + "." + key;
    value = config.number(path, value);
    check_range(config, path, value, limits);
  }
  void operator()(const char* key, int64_t& value, const Limits& limits, const char*) const {
    const std::string path = section + "." + key;
    value = config.integer(path, value);
    check_range(config, path, static_cast<double>(value), limits);
  }
  void operator()(const char* key, bool& value, const Limits&, const char*) const {
    value = config.boolean(section + "." + key, value);
  }
  void operator()(const char* key, std::string& value, const Limits& limits, const char*) const {
    const std::string path = section + "." + key;
    if (!config.has(path)) return;
    const auto& node = config.root().at(section).at(key);
    const bool takes_boolean =
        std::find(limits.words.begin(), limits.words.end(), "true") != limits.words.end();
    value = takes_boolean && node.is_boolean() ? (node.get<bool>() ? "true" : "false")
                                               : config.text(path, value);
    if (limits.words.empty()) return;
    if (std::find(limits.words.begin(), limits.words.end(), value) != limits.words.end()) return;
    throw Error(
        ErrorKind::kSchema,
        concat(config.where(path), ": ", path, " is '", value, "', which is none of its values.",
               name_hint(value, limits.words), advice(path, value)),
        path);
  }
  void operator()(const char* key, std::vector<int64_t>& value, const Limits& limits,
                  const char*) const {
    const std::string path = section + "." + key;
    if (!config.has(path)) return;
    const auto& node = config.root().at(section).at(key);
    value.clear();
    if (node.is_number_integer()) value.push_back(node.get<int64_t>());
    const bool list = node.is_array() && !node.empty() &&
                      std::all_of(node.begin(), node.end(),
                                  [](const nlohmann::json& x) { return x.is_number_integer(); });
    if (list) value = node.get<std::vector<int64_t>>();
    if (value.empty()) {
      throw Error(ErrorKind::kSchema,
                  concat(config.where(path), ": ", path,
                         " must be an integer or a list of integers, got ", node.dump(), "."),
                  path);
    }
    for (const int64_t x : value) check_range(config, path, static_cast<double>(x), limits);
    std::sort(value.begin(), value.end());
    value.erase(std::unique(value.begin(), value.end()), value.end());
  }

  static std::string advice(const std::string& path, const std::string& value) {
    if (path != "training.loss" || value.find("batch") == std::string::npos) return "";
    return " Plain in-batch softmax punishes popular items for being popular and is not offered:"
           " sampled_softmax adds uniform negatives and corrects both by logQ.";
  }
};

struct Writer {
  nlohmann::json& out;
  std::string section;
  template <class T>
  void operator()(const char* key, const T& value, const Limits&, const char*) const {
    out[section + "." + key] = value;
  }
};

struct HelpPrinter {
  std::ostringstream& out;
  template <class T>
  void operator()(const char* key, const T& value, const Limits& limits, const char* help) const {
    out << "  " << key << " = " << nlohmann::json(value).dump();
    if (!limits.words.empty()) {
      out << "  (";
      for (size_t i = 0; i < limits.words.size(); ++i) out << (i ? " | " : "") << limits.words[i];
      out << ")";
    }
    out << "\n      " << help << "\n";
  }
};

// Cross-field rules.
void check_together(const ConfigTree& config, const TrainerConfig& c) {
  if (c.data.separator.size() != 1) {
    throw Error(ErrorKind::kSchema,
                concat(config.where("data.separator"),
                       ": data.separator must be one character, got '", c.data.separator, "'."),
                "data.separator");
  }
  for (const auto& [key, file] : {std::pair("valid", &c.data.valid), {"test", &c.data.test}}) {
    if (c.data.split == "given" || file->empty()) continue;
    const std::string path = concat("data.", key);
    throw Error(ErrorKind::kSchema,
                concat(config.where(path), ": ", path,
                       " is used with data.split = \"given\" only, but split is '", c.data.split,
                       "'; set split = \"given\" or leave ", key, " out."),
                path);
  }
}

}  // namespace

TrainerConfig TrainerConfig::from_config(const ConfigTree& config) {
  static const std::vector<std::string> kSections = {
      "name", "data",    "columns", "kinds", "user",     "context",
      "item", "outcome", "history", "model", "training", "evaluation"};
  config.check_keys("", kSections);
  TrainerConfig c;
  visit_sections(c, [&](const char* name, auto&& fields) {
    std::vector<std::string> known;
    fields([&](const char* key, const auto&, const Limits&, const char*) { known.push_back(key); });
    if (config.has(name)) config.check_keys(name, known);
    fields(Reader{config, name});
  });
  check_together(config, c);
  return c;
}

nlohmann::json TrainerConfig::to_json() const {
  nlohmann::json out;
  visit_sections(*this, [&](const char* name, auto&& fields) { fields(Writer{out, name}); });
  return out;
}

TrainData data_from_config(const ConfigTree& config, const std::string& data_dir) {
  const DataConfig names = TrainerConfig::from_config(config).data;
  if (names.events.empty()) {
    throw Error(ErrorKind::kArgument,
                concat(config.name(),
                       ": [data] names no events; add events = \"events.csv.gz\", or train from "
                       "Python with fit(events)."),
                "data.events");
  }
  namespace fs = std::filesystem;
  const fs::path base =
      data_dir.empty() ? fs::path(config.name()).parent_path() : fs::path(data_dir);
  const auto source = [&](const std::string& name) {
    DataSource out;
    if (!name.empty()) out.path = (base / name).string();  // an absolute name stays as it is
    if (!fs::path(name).is_absolute()) out.cure = "--data DIR names another folder.";
    return out;
  };
  TrainData data;
  data.events = source(names.events);
  data.items = source(names.items);
  data.users = source(names.users);
  data.valid = source(names.valid);
  data.test = source(names.test);
  return data;
}

std::string config_help() {
  std::ostringstream out;
  const TrainerConfig defaults;
  visit_sections(defaults, [&](const char* name, auto&& fields) {
    out << "[" << name << "]\n";
    fields(HelpPrinter{out});
  });
  return out.str();
}

}  // namespace hypertower
