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
  int64_t targets = 0;     // training events
  double per_person = 0;   // of the people who have any
  int64_t usual_most = 0;  // of 95 % of those people
  bool ordered = false;    // by a column of the events
  double per_item = 0;
};

Facts facts_of(const Dataset& data) {
  Facts facts;
  const Columns& columns = data.features.schema().columns;
  facts.ordered = !columns.time.empty() || !columns.position.empty();
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
  facts.per_person = static_cast<double>(facts.targets) / static_cast<double>(counts.size());
  const auto place = counts.begin() + static_cast<int64_t>(counts.size() * 95 / 100);
  std::nth_element(counts.begin(), place, counts.end());
  facts.usual_most = *place;
  return facts;
}

HistoryEncoder reader_for(const Architecture& architecture, const Facts& facts) {
  const bool enough = facts.targets >= kEnoughTargets && facts.per_person >= kEnoughPerPerson;
  return enough && facts.ordered && architecture.dim % architecture.history_heads == 0
             ? HistoryEncoder::kTransformer
             : HistoryEncoder::kPools;
}

// Epochs of about 3 sqrt(targets) steps in all.
int64_t epochs_for(const TrainingConfig& training, int64_t targets) {
  const double epochs = 3.0 * static_cast<double>(tokens_per_batch(training, targets)) /
                        std::sqrt(static_cast<double>(std::max<int64_t>(1, targets)));
  return std::clamp<int64_t>(std::llround(epochs), 1, 30);
}

}  // namespace

int64_t tokens_per_batch(const TrainingConfig& training, int64_t targets) {
  constexpr int64_t kManyTargets = 300000;
  if (training.batch_size > 0) return training.batch_size;
  return targets < kManyTargets ? 1024 : 2048;
}

Decisions decide(const Architecture& architecture, const TrainingConfig& training,
                 int64_t history_length, const Dataset& data) {
  const Facts facts = facts_of(data);
  Decisions d{architecture, training, history_length, ""};
  if (d.architecture.history == HistoryEncoder::kAuto) {
    d.architecture.history = reader_for(architecture, facts);
  }
  const bool transformer = d.architecture.history == HistoryEncoder::kTransformer;
  TrainingConfig& t = d.training;
  if (d.history_length == 0) {
    d.history_length = transformer ? std::clamp(facts.usual_most, kShortest, kLongest) : kShortest;
  }
  if (t.epochs == 0) t.epochs = transformer ? epochs_for(training, facts.targets) : 10;
  if (t.lr == 0) t.lr = transformer ? 2e-3 : 1e-3;
  if (t.weight_decay < 0) t.weight_decay = transformer ? 0 : 0.1;
  if (t.table_optimizer == "auto") t.table_optimizer = transformer ? "adam" : "adagrad";
  if (t.table_lr == 0) t.table_lr = t.table_optimizer == "adam" ? t.lr : 0.05;
  if (t.dropout < 0) {
    t.dropout = !transformer ? 0.2 : facts.per_item < kFewPerItem ? 0.3 : 0.1;
  }
  d.text = concat(
      "Histories are read by ", transformer ? "a transformer" : "recency-weighted pools",
      ", the latest ", d.history_length, " events (model.history, history.length): ", facts.targets,
      " events to learn from, ", std::llround(facts.per_person), " a person, ",
      std::llround(facts.per_item), " an item", facts.ordered ? "" : ", in the order of their rows",
      "; at most ", t.epochs, " epochs, dropout ", t.dropout, ".");
  return d;
}

}  // namespace hypertower
