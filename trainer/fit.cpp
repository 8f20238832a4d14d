#include "trainer/fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <optional>

#include "kernels/error.h"
#include "kernels/finite_rows.h"
#include "trainer/baselines.h"
#include "trainer/batches.h"
#include "trainer/evaluate.h"
#include "trainer/hard_negatives.h"
#include "trainer/item_start.h"
#include "trainer/sampler.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLastRate = 0.05;       // of the learning rate, at the end of the cosine
constexpr double kLeastProgress = 1e-5;  // of the gain, to count as better
constexpr double kBeta2 = 0.98;
constexpr double kRareBeta2 = 0.999;  // of tables whose rows are touched now and then

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Without a copy: tables may be as large as the memory.
bool all_finite(const at::Tensor& parameter) {
  if (!parameter.is_cpu()) return at::isfinite(parameter).all().item<bool>();
  const int64_t rows = parameter.dim() < 2 ? 1 : parameter.size(0);
  const int64_t cols = parameter.numel() / std::max<int64_t>(1, rows);
  return first_non_finite_row({parameter.const_data_ptr<float>(), rows, cols},
                              at::get_num_threads()) < 0;
}

std::unique_ptr<Batches> batches_for(const TrainingInputs& inputs, const Architecture& architecture,
                                     const TrainingConfig& config, const FitTask& task) {
  if (architecture.history == HistoryEncoder::kPools) {
    return single_batches(inputs.histories, task.train, config);
  }
  const auto make = architecture.history == HistoryEncoder::kSet ? people_batches : window_batches;
  return make(inputs.data.events, inputs.histories, inputs.data.users.size(), task.train, task.last,
              config);
}

// A copy of all that the towers know, to go back to the best epoch.
struct Snapshot {
  std::vector<at::Tensor> parameters;
  std::map<std::string, IdTable::Saved> vocabularies;

  explicit Snapshot(const TwoTower& towers) {
    for (const auto& p : towers.parameters()) parameters.push_back(p.detach().clone());
    for (const auto& [name, v] : towers.vocabularies()) vocabularies[name] = v->save();
  }

  void restore(TwoTower& towers) const {
    const at::NoGradGuard no_grad;
    const auto to = towers.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) to[i].copy_(parameters[i]);
    for (const auto& [name, v] : towers.vocabularies()) v->restore(vocabularies.at(name));
  }
};

class Loop {
 public:
  Loop(const TrainingInputs& inputs, const Architecture& architecture, const TrainerConfig& config,
       bool exclude_seen, const FitTask& task, TrainObserver& observer)
      : inputs_(inputs),
        config_(config),
        exclude_seen_(exclude_seen),
        task_(task),
        observer_(observer),
        batches_(batches_for(inputs, architecture, config.training, task)) {
    const TrainingConfig& t = config.training;
    const auto seed = static_cast<uint64_t>(t.seed);
    const int64_t items = inputs.data.items.size();
    const Dropout dropout{t.dropout, t.user_dropout, t.context_dropout, t.moment_dropout};
    const Optimizer table_optimizer =
        t.table_optimizer == "adam" ? Optimizer::kAdam : Optimizer::kRowWiseAdagrad;
    towers_ = std::make_shared<TwoTower>(architecture, inputs.data.features, items, dropout,
                                         table_optimizer, seed, inputs.device);
    start_items(architecture.dim - 1, seed);
    sampled_ = t.loss == "sampled_softmax" || (t.loss == "auto" && items > t.full_softmax_items);
    if (sampled_) sampler_.emplace(target_counts(), t.negatives, seed);
    if (sampled_ && t.hard_negatives > 0) {
      hard_.emplace(*towers_, inputs, t.hard_negatives, exclude_seen);
    }
    using torch::optim::AdamWOptions;
    std::vector<torch::optim::OptimizerParamGroup> groups;
    const auto options = [&](double decay) {
      return std::make_unique<AdamWOptions>(
          AdamWOptions(t.lr).betas({0.9, kBeta2}).weight_decay(decay));
    };
    groups.emplace_back(towers_->dense_matrices(), options(t.weight_decay));
    groups.emplace_back(towers_->dense_vectors(), options(0.0));
    dense_ = std::make_unique<torch::optim::AdamW>(std::move(groups), AdamWOptions(t.lr));
  }

  FitResult run() {
    FitResult result;
    result.epochs = nlohmann::json::array();
    double best_gain = -1;
    std::optional<Snapshot> best;
    int64_t without_progress = 0;
    for (int64_t epoch = 1; epoch <= task_.epochs && !result.stopped; ++epoch) {
      const auto start = Clock::now();
      nlohmann::json report = {{"stage", task_.stage}, {"epoch", epoch}, {"epochs", task_.epochs}};
      report["train_loss"] = train_epoch(epoch);
      check_parameters(*towers_, step_);
      if (!task_.valid.empty()) {
        const Evaluation e =
            evaluate_towers(*towers_, inputs_, task_.valid, config_.evaluation.k, exclude_seen_);
        report.update(e.metrics);
        report["gain"] = e.gain;
        without_progress = e.gain > best_gain + kLeastProgress ? 0 : without_progress + 1;
        if (without_progress == 0) {
          best_gain = e.gain;
          best.emplace(*towers_);
          result.best_epoch = epoch;
        }
      } else {
        result.best_epoch = epoch;
      }
      report["seconds"] = seconds_since(start);
      result.epochs.push_back(report);
      result.stopped = !observer_.on_epoch(report);
      if (!task_.valid.empty() && without_progress >= config_.training.patience) break;
    }
    if (best.has_value()) best->restore(*towers_);
    towers_->eval();
    result.vocabularies = nlohmann::json::object();
    for (const auto& [name, v] : towers_->vocabularies()) {
      result.vocabularies[name.substr(0, name.rfind('.'))] = v->report();
    }
    result.towers = towers_;
    return result;
  }

 private:
  void start_items(int64_t dim, uint64_t seed) {
    const TrainingConfig& t = config_.training;
    const at::Tensor start =
        t.item_start == "svd"
            ? svd_item_start(inputs_.data, inputs_.histories, task_.train, dim, t.start_scale, seed)
            : random_item_start(inputs_.data.items.size(), dim, t.start_scale, seed);
    const at::NoGradGuard no_grad;
    towers_->named_parameters()["item.id.weight"].copy_(start);
    const at::Tensor log_counts = log_popularity_start(target_counts());
    towers_->named_parameters()["item.bias.weight"].copy_(log_counts);
    if (at::Tensor* log_weight = towers_->named_parameters().find("history.log_weight.weight")) {
      log_weight->copy_(-0.5 * log_counts);  // what few have says more
    }
  }

  std::vector<float> target_counts() const {
    std::vector<float> counts(static_cast<size_t>(inputs_.data.items.size()), 0.0F);
    for (const int64_t e : task_.train) {
      counts[static_cast<size_t>(inputs_.data.events.item[static_cast<size_t>(e)])] += 1;
    }
    return counts;
  }

  // Mean loss over the epoch's events.
  double train_epoch(int64_t epoch) {
    towers_->train();
    const int64_t steps = batches_->begin_epoch(epoch);
    const auto start = Clock::now();
    at::Tensor total = at::zeros({}, at::dtype(at::kDouble).device(inputs_.device));
    for (int64_t s = 0; s < steps; ++s) {
      const TrainBatch batch = batches_->batch(s);
      set_rates(static_cast<double>(epoch - 1) +
                static_cast<double>(s) / static_cast<double>(steps));
      dense_->zero_grad();
      for (const auto& [name, vocabulary] : towers_->vocabularies()) vocabulary->begin_step();
      at::Tensor loss;
      try {
        loss = batch_loss(batch);
      } catch (const Error& e) {
        if (e.kind() == ErrorKind::kNumeric) check_parameters(*towers_, step_);
        throw;
      }
      loss.backward();
      dense_->step();
      total += loss.detach().to(at::kDouble) * static_cast<double>(batch.targets.size());
      ++step_;
      report_progress(epoch, s + 1, steps, start);
    }
    return (total / static_cast<double>(task_.train.size())).item<double>();
  }

  // `epochs_done`: so many have passed.
  void set_rates(double epochs_done) {
    const TrainingConfig& t = config_.training;
    const double done = epochs_done / static_cast<double>(t.epochs);
    const double warm =
        t.warmup_steps == 0
            ? 1.0
            : std::min(1.0, static_cast<double>(step_ + 1) / static_cast<double>(t.warmup_steps));
    const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * std::min(1.0, done)));
    const double factor = warm * (kLastRate + (1 - kLastRate) * cosine);
    for (auto& group : dense_->param_groups()) group.options().set_lr(t.lr * factor);
    for (const auto& table : towers_->tables()) {
      table->step.beta2 = static_cast<float>(sampled_ ? kRareBeta2 : kBeta2);
      table->step.lr = static_cast<float>(t.table_lr * factor);
    }
  }

  // Mean over the batch of the weighted cross entropies.
  at::Tensor batch_loss(const TrainBatch& batch) {
    const Events& events = inputs_.data.events;
    std::vector<int64_t> read = batch.past.items;  // places at hand
    SoftmaxColumns columns;
    const std::vector<int64_t> targets = targets_of(inputs_, batch.targets);
    std::vector<float> weights;
    for (const int64_t e : batch.targets) weights.push_back(events.weight[static_cast<size_t>(e)]);
    at::Tensor vectors;         // of the items at hand
    at::Tensor column_vectors;  // of the loss's columns
    if (sampled_) {
      const std::vector<int64_t> certain =
          hard_ ? hard_->mine(batch.targets) : std::vector<int64_t>{};
      const Candidates candidates = sampler_->draw(targets, step_, certain);
      const std::vector<int64_t> at_hand = join(candidates.items, read);
      vectors = towers_->items(own_bags(at_hand), inputs_.items.gather(at_hand));
      to_places(at_hand, read);
      std::vector<int64_t> places = candidates.items;
      to_places(at_hand, places);
      column_vectors = vectors.index_select(0, to_tensor(places, inputs_.device));
      columns.target = to_tensor(candidates.target, inputs_.device);
      columns.logq = to_tensor(candidates.logq, inputs_.device);
      columns.column_item = to_tensor(candidates.items, inputs_.device);
    } else {
      vectors = towers_->items(inputs_.all_item_ids, inputs_.all_items);
      column_vectors = vectors;
      columns.target = to_tensor(targets, inputs_.device);
      columns.column_item = inputs_.all_item_ids.ids;
    }
    if (exclude_seen_ && batch.target_offsets.empty()) {
      const SeenItems seen = seen_items(inputs_.histories, batch.targets);
      columns.exclude = to_tensor(seen.items, inputs_.device);
      columns.exclude_offsets = to_tensor(seen.offsets, inputs_.device);
    }
    const at::Tensor weight = to_tensor(weights, inputs_.device);
    const GroupInput users = inputs_.users_of(batch.people);
    const HistoryInput history = to_input(batch.past, read, inputs_.device);
    if (!batch.tokens.empty()) {
      const at::Tensor state = towers_->states_after(users, history, vectors, batch.tokens);
      return event_loss(state, batch, column_vectors, columns, weight);
    }
    const at::Tensor state = towers_->state(users, history, vectors);
    if (batch.target_offsets.empty()) {
      return event_loss(state, batch, column_vectors, columns, weight);
    }
    if (towers_->architecture().head == Head::kNone) {
      return people_loss(state, batch, column_vectors, columns, weight);
    }
    // Each target has a moment of its own.
    std::vector<int64_t> row;
    for (size_t r = 1; r < batch.target_offsets.size(); ++r) {
      row.resize(static_cast<size_t>(batch.target_offsets[r]), static_cast<int64_t>(r) - 1);
    }
    return event_loss(state.index_select(0, to_tensor(row, inputs_.device)), batch, column_vectors,
                      columns, weight);
  }

  // states [targets, t].
  at::Tensor event_loss(const at::Tensor& states, const TrainBatch& batch,
                        const at::Tensor& column_vectors, SoftmaxColumns columns,
                        const at::Tensor& weight) {
    const at::Tensor queries = towers_->query(states, inputs_.context_of(batch.targets));
    columns.row_weight = weight;
    return softmax_loss(queries, column_vectors, columns).mean();
  }

  // One query a person, states [people, t], and one softmax with all of her targets as positives:
  // log of the sum of all columns less the weighted mean of the targets' logits. A person counts as
  // much as her targets together.
  at::Tensor people_loss(const at::Tensor& states, const TrainBatch& batch,
                         const at::Tensor& column_vectors, SoftmaxColumns columns,
                         const at::Tensor& weight) {
    const at::Tensor queries = towers_->query(states, {.rows = states.size(0), .fields = {}});
    const at::Tensor offsets = to_tensor(batch.target_offsets, inputs_.device);
    const at::Tensor first = columns.target.index_select(0, offsets.slice(0, 0, -1));
    const at::Tensor row =
        at::repeat_interleave(offsets.diff(), std::optional<int64_t>(columns.target.size(0)));
    const at::Tensor total =
        at::zeros({states.size(0)}, weight.options()).index_add(0, row, weight);
    const at::Tensor mean = weighted_pool(column_vectors, weight / total.index_select(0, row),
                                          make_bags(columns.target, offsets));
    columns.target = first;
    const at::Tensor of_first = softmax_loss(queries, column_vectors, columns);
    const at::Tensor others = column_vectors.index_select(0, first) - mean;
    return (total * (of_first + (queries * others).sum(1))).sum() / total.sum();
  }

  // Ascending distinct union.
  static std::vector<int64_t> join(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    std::vector<int64_t> out = a;
    out.insert(out.end(), b.begin(), b.end());
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }

  static void to_places(const std::vector<int64_t>& sorted, std::vector<int64_t>& items) {
    for (int64_t& item : items) {
      item = std::lower_bound(sorted.begin(), sorted.end(), item) - sorted.begin();
    }
  }

  IdBags own_bags(const std::vector<int64_t>& items) const {
    const auto n = static_cast<int64_t>(items.size());
    return make_bags(to_tensor(items, inputs_.device),
                     at::arange(n + 1, at::dtype(at::kLong).device(inputs_.device)));
  }

  void report_progress(int64_t epoch, int64_t done, int64_t total, Clock::time_point start) {
    TrainObserver::Progress progress;
    progress.stage = task_.stage;
    progress.done = done;
    progress.total = total;
    progress.epoch = epoch;
    progress.per_second = static_cast<double>(done) / std::max(1e-9, seconds_since(start));
    progress.seconds_left = static_cast<double>(total - done) / progress.per_second;
    observer_.on_progress(progress);
  }

  const TrainingInputs& inputs_;
  const TrainerConfig& config_;
  const bool exclude_seen_;
  const FitTask& task_;
  TrainObserver& observer_;
  std::unique_ptr<Batches> batches_;
  std::shared_ptr<TwoTower> towers_;
  bool sampled_ = false;
  std::optional<CandidateSampler> sampler_;
  std::optional<HardNegatives> hard_;
  std::unique_ptr<torch::optim::AdamW> dense_;
  int64_t step_ = 0;
};

}  // namespace

void check_parameters(const TwoTower& towers, int64_t step) {
  for (const auto& p : towers.named_parameters()) {
    if (all_finite(p.value())) continue;
    throw Error(ErrorKind::kNumeric,
                concat("training diverged at step ", step, ": parameter '", p.key(),
                       "' holds NaN or infinity; lower training.lr or training.table_lr."),
                p.key());
  }
}

FitResult fit_towers(const TrainingInputs& inputs, const Architecture& architecture,
                     const TrainerConfig& config, bool exclude_seen, const FitTask& task,
                     TrainObserver& observer) {
  return Loop(inputs, architecture, config, exclude_seen, task, observer).run();
}

}  // namespace hypertower
