#include "trainer/decide.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "trainer/text.h"

namespace hypertower {
namespace {

constexpr int64_t kEnoughTargets = 100000;  // for a transformer to beat pools
constexpr double kEnoughPerPerson = 3;
constexpr int64_t kShortest = 50;  // of the histories read
constexpr int64_t kLongest = 200;
constexpr int64_t kFewPerItem = 50;

struct Facts {
  int64_t people = 0;      // who have training events
  int64_t targets = 0;     // training events
  double per_person = 0;   // of the people who have any
  int64_t usual_most = 0;  // of 95 % of those people
  bool ordered = false;    // time, position or the rows say what came after what
  double per_item = 0;
};

// Whether the events of every person come in ascending order of their items' ids.
bool sorted_by_item(const Dataset& data) {
  const std::vector<std::string>& ids = data.items.ids();
  const bool numbers = data.items.all_integers();
  const auto before = [&](int64_t a, int64_t b) {
    const std::string& x = ids[static_cast<size_t>(a)];
    const std::string& y = ids[static_cast<size_t>(b)];
    return numbers ? std::stoll(x) < std::stoll(y) : x < y;
  };
  std::vector<int64_t> latest(static_cast<size_t>(data.users.size()), -1);
  bool compared = false;
  for (size_t e = 0; e < data.events.user.size(); ++e) {
    int64_t& item = latest[static_cast<size_t>(data.events.user[e])];
    if (item >= 0 && before(data.events.item[e], item)) return false;
    compared = compared || item >= 0;
    item = data.events.item[e];
  }
  return compared;
}

Facts facts_of(const Dataset& data, const std::string& split) {
  Facts facts;
  const Columns& columns = data.features.schema().columns;
  facts.ordered = !columns.time.empty() || !columns.position.empty() ||
                  (split != "random" && !sorted_by_item(data));
  std::vector<int64_t> counts(static_cast<size_t>(data.users.size()), 0);
  for (size_t e = 0; e < data.events.user.size(); ++e) {
    if (data.events.part[e] != Part::kTrain) continue;
    ++counts[static_cast<size_t>(data.events.user[e])];
    facts.targets += data.events.weight[e] > 0 ? 1 : 0;
  }
  std::erase(counts, 0);
  facts.per_item = static_cast<double>(facts.targets) /
                   static_cast<double>(std::max<int64_t>(1, data.items.size()));
  if (counts.empty()) return facts;
  facts.people = static_cast<int64_t>(counts.size());
  facts.per_person = static_cast<double>(facts.targets) / static_cast<double>(counts.size());
  const auto place = counts.begin() + static_cast<int64_t>(counts.size() * 95 / 100);
  std::nth_element(counts.begin(), place, counts.end());
  facts.usual_most = *place;
  return facts;
}

HistoryEncoder reader_for(const Architecture& architecture, const Facts& facts) {
  // A set has one query per person and none per moment.
  if (!facts.ordered && architecture.head == Head::kNone) return HistoryEncoder::kSet;
  const bool enough = facts.targets >= kEnoughTargets && facts.per_person >= kEnoughPerPerson;
  return enough && facts.ordered && architecture.dim % architecture.history_heads == 0
             ? HistoryEncoder::kTransformer
             : HistoryEncoder::kPools;
}

// What goes with a way to read histories.
struct Defaults {
  const char* name;
  int64_t history_length;
  int64_t epochs;
  double lr;
  double weight_decay;
  const char* table_optimizer;
  double dropout;
};

Defaults transformer_defaults(const TrainingConfig& training, const Facts& facts) {
  // About 3 sqrt(targets) steps in all.
  const double targets = static_cast<double>(std::max<int64_t>(1, facts.targets));
  const double epochs =
      3.0 * static_cast<double>(tokens_per_batch(training, facts.targets)) / std::sqrt(targets);
  return {"a sequence by a transformer",
          std::clamp(facts.usual_most, kShortest, kLongest),
          std::clamp<int64_t>(std::llround(epochs), 1, 30),
          2e-3,
          0.0,
          "adam",
          facts.per_item < kFewPerItem ? 0.3 : 0.1};
}

Defaults set_defaults(const TrainingConfig& training, const Facts& facts) {
  constexpr int64_t kSteps = 2500;
  constexpr int64_t kMostStored = 256;  // of what a person did, by a server
  const int64_t size = people_per_batch(training);
  const int64_t steps = std::max<int64_t>(1, (facts.people + size - 1) / size);
  return {"a set", kMostStored, std::clamp<int64_t>(kSteps / steps, 5, 100), 1e-2, 0.0,
          "adam",  0.0};
}

}  // namespace

int64_t people_per_batch(const TrainingConfig& training) {
  return training.batch_size > 0 ? training.batch_size : 256;
}

int64_t tokens_per_batch(const TrainingConfig& training, int64_t targets) {
  constexpr int64_t kManyTargets = 300000;
  if (training.batch_size > 0) return training.batch_size;
  return targets < kManyTargets ? 1024 : 2048;
}

Decisions decide(const Architecture& architecture, bool dim_is_open, const TrainingConfig& training,
                 int64_t history_length, const Dataset& data, const std::string& split) {
  constexpr int64_t kSetDim = 128;
  const Facts facts = facts_of(data, split);
  Decisions d{architecture, training, history_length, ""};
  if (d.architecture.history == HistoryEncoder::kAuto) {
    d.architecture.history = reader_for(architecture, facts);
  }
  const HistoryEncoder reader = d.architecture.history;
  if (reader == HistoryEncoder::kSet && dim_is_open) d.architecture.dim = kSetDim;
  const Defaults by_rule =
      reader == HistoryEncoder::kTransformer ? transformer_defaults(training, facts)
      : reader == HistoryEncoder::kSet
          ? set_defaults(training, facts)
          : Defaults{"recency-weighted means", kShortest, 10, 1e-3, 0.1, "adagrad", 0.2};
  if (d.history_length == 0) d.history_length = by_rule.history_length;
  TrainingConfig& t = d.training;
  if (t.epochs == 0) t.epochs = by_rule.epochs;
  if (t.patience < 0) t.patience = std::max<int64_t>(2, t.epochs / 5);
  if (t.negatives < 0) t.negatives = reader == HistoryEncoder::kSet ? 4096 : 1024;
  if (t.lr == 0) t.lr = by_rule.lr;
  if (t.weight_decay < 0) t.weight_decay = by_rule.weight_decay;
  if (t.table_optimizer == "auto") t.table_optimizer = by_rule.table_optimizer;
  if (t.table_lr == 0) t.table_lr = t.table_optimizer == "adam" ? t.lr : 0.05;
  if (t.dropout < 0) t.dropout = by_rule.dropout;
  d.text =
      concat("Histories are read as ", by_rule.name, ", the latest ", d.history_length,
             " events (model.history, history.length): ", facts.targets, " events to learn from, ",
             std::llround(facts.per_person), " a person, ", std::llround(facts.per_item),
             " an item", facts.ordered ? "" : ", in no order", "; dimension ", d.architecture.dim,
             ", at most ", t.epochs, " epochs, dropout ", t.dropout, ".");
  return d;
}

}  // namespace hypertower
