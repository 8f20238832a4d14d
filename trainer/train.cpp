#include "trainer/train.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>

#include "kernels/error.h"
#include "kernels/parallel.h"
#include "model/architecture.h"
#include "model/history_transformer.h"
#include "trainer/baselines.h"
#include "trainer/config.h"
#include "trainer/count_followers.h"
#include "trainer/dataset.h"
#include "trainer/decide.h"
#include "trainer/evaluate.h"
#include "trainer/export.h"
#include "trainer/fit.h"
#include "trainer/fit_memory.h"
#include "trainer/histories.h"
#include "trainer/random.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kRareRepeats = 0.01;  // below this share a repeat is an accident, not a wish
constexpr double kWorthRefit = 0.02;   // share of held-out events that are worth a second run
constexpr uint64_t kSampleStream = 3;
constexpr size_t kPopularKept = 1000;

// Seconds of each stage, by name.
class StageTimer {
 public:
  void end(const std::string& stage) {
    const auto now = Clock::now();
    seconds_[stage] = std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  nlohmann::json report() const {
    nlohmann::json out = seconds_;
    out["total"] = std::chrono::duration<double>(Clock::now() - start_).count();
    return out;
  }

 private:
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
  nlohmann::json seconds_ = nlohmann::json::object();
};

// Asks torch for the deterministic variant of its own CUDA functions while a training runs (on the
// CPU they are deterministic anyway).
class Deterministic {
 public:
  Deterministic()
      : before_(at::globalContext().deterministicAlgorithms()),
        warn_only_before_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  }
  ~Deterministic() { at::globalContext().setDeterministicAlgorithms(before_, warn_only_before_); }
  Deterministic(const Deterministic&) = delete;
  Deterministic& operator=(const Deterministic&) = delete;

 private:
  bool before_;
  bool warn_only_before_;
};

at::Device device_for(const TrainingConfig& config) {
  const bool available = cuda_available() && torch::cuda::is_available();
  if (config.device == "cuda" && !available) {
    throw Error(
        ErrorKind::kArgument,
        "training.device = \"cuda\", but no CUDA device can be used here; leave \"auto\" or "
        "set \"cpu\".",
        "training.device");
  }
  return config.device != "cpu" && available ? at::kCUDA : at::kCPU;
}

// Of the parts from `first` to `last`, ascending.
std::vector<int64_t> targets_of(const Events& events, Part first, Part last) {
  std::vector<int64_t> out;
  for (int64_t e = 0; e < events.size(); ++e) {
    const auto i = static_cast<size_t>(e);
    const Part part = events.part[i];
    if (part >= first && part <= last && events.weight[i] > 0) out.push_back(e);
  }
  return out;
}

// At most `most` of them (0: all), drawn once, ascending.
std::vector<int64_t> sample(std::vector<int64_t> rows, int64_t most, int64_t seed) {
  if (most == 0 || static_cast<int64_t>(rows.size()) <= most) return rows;
  shuffle(rows, CounterRandom(static_cast<uint64_t>(seed), kSampleStream));
  rows.resize(static_cast<size_t>(most));
  std::sort(rows.begin(), rows.end());
  return rows;
}

// Of `all` events so many were for training.
bool decide_refit(const TrainingConfig& config, int64_t train, int64_t all) {
  if (all == train) return false;
  if (config.refit != "auto") return config.refit == "true";
  return static_cast<double>(all - train) >= kWorthRefit * static_cast<double>(train);
}

bool decide_exclude_seen(const EvaluationConfig& config, const Dataset& data,
                         const Histories& histories, TrainObserver& observer) {
  if (config.exclude_seen != "auto") return config.exclude_seen == "true";
  const double share = repeat_share(data.events, histories);
  const bool exclude = share < kRareRepeats;
  observer.on_message(concat(100 * share, " % of the events repeat an item of their user: seen ",
                             "items are ", exclude ? "left out of" : "kept in",
                             " the answers (evaluation.exclude_seen)."));
  return exclude;
}

// The most popular items with their counts, for baselines beside a later `evaluate`.
nlohmann::json most_popular(const std::vector<float>& counts) {
  std::vector<int64_t> order(counts.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const auto count = [&](int64_t i) { return counts[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return count(a) > count(b); });
  if (order.size() > kPopularKept) order.resize(kPopularKept);
  nlohmann::json out = nlohmann::json::array();
  for (const int64_t i : order) out.push_back({i, count(i)});
  return out;
}

nlohmann::json measure_baselines(const TrainingInputs& inputs, const TrainerConfig& config,
                                 std::span<const int64_t> events, bool exclude_seen) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& baseline :
       fit_baselines(inputs.data, inputs.histories, Part::kTrain, !exclude_seen)) {
    out[baseline->name()] =
        evaluate_baseline(*baseline, inputs.data, inputs.histories, events, config.evaluation.k,
                          exclude_seen, at::get_num_threads());
  }
  return out;
}

// Adds who won by ndcg at the first list length, and says so when it was not the model.
void compare(nlohmann::json& report, const std::string& measure, TrainObserver& observer) {
  const double model = report["test"][measure];
  double best = -1;
  for (const auto& [name, metrics] : report["baselines"].items()) {
    if (metrics[measure].get<double>() <= best) continue;
    best = metrics[measure];
    report["best_baseline"] = name;
  }
  report["beats_baselines"] = model > best;
  if (model > best) return;
  observer.on_message(concat("The baseline ", report["best_baseline"].get<std::string>(),
                             " is at least as good as the model (", measure, " ", best, " against ",
                             model, "): serve that, or give the model more data or features."));
}

void tell_of_vocabularies(const nlohmann::json& vocabularies, TrainObserver& observer) {
  for (const auto& [feature, v] : vocabularies.items()) {
    const auto number = [&v](const char* name) { return v[name].get<int64_t>(); };
    std::string text = concat(feature, ": ", number("values"), " of ", number("rows"),
                              " rows of its dynamic vocabulary are taken");
    if (number("evicted") > 0) {
      text += concat("; ", number("evicted"), " times a value lost its row to another");
    }
    if (number("failed") > 0) {
      text +=
          concat("; ", number("failed"), " times a value found none and shared a hashed row (more ",
                 "rows, or evict = \"least_recent\", would help)");
    }
    observer.on_message(text + ".");
  }
}

// What of the memory is worth its place on the validation events; nothing without any.
Memory fit_memory(TwoTower& towers, const TrainingInputs& inputs, std::span<const int64_t> valid,
                  const TrainingConfig& config, bool exclude_seen, TrainObserver& observer) {
  Memory memory;
  if (valid.empty()) return memory;
  const auto told = [&](const Worth& worth) {
    return concat(": on validation events the gain is ", worth.with, ", without it ",
                  worth.without);
  };
  if (config.followers != "off") {
    const Dataset& data = inputs.data;
    memory.followers = count_followers(data.events, inputs.histories, data.users.size(),
                                       data.items.size(), Part::kTrain);
    const Worth worth = choose_strength(towers, inputs, valid, exclude_seen, memory);
    observer.on_message(
        memory.followers.on()
            ? concat("What follows the latest items of a history is raised with strength ",
                     memory.followers.strength, told(worth), " (training.followers).")
            : "Raising what follows the latest items of a history is of no use here "
              "(training.followers).");
  }
  if (config.habits != "off" && !exclude_seen) {
    const Worth worth = fit_habits(towers, inputs, valid, memory);
    observer.on_message(memory.habits.on()
                            ? concat("What people did before at moments like theirs is raised",
                                     told(worth), " (training.habits).")
                            : "Raising what people did before is of no use here "
                              "(training.habits).");
  }
  return memory;
}

TrainResult train_on(const Dataset& data, const Architecture& architecture,
                     const TrainerConfig& config, at::Device device, StageTimer& timer,
                     TrainObserver& observer) {
  std::vector<int64_t> kind_rows;
  for (const std::string& kind : data.kinds) {
    kind_rows.push_back(kind_row(data.features.schema(), kind));
  }
  const Histories histories(data.events, data.users.size(), data.features.schema().history_length,
                            std::move(kind_rows));
  const bool exclude_seen = decide_exclude_seen(config.evaluation, data, histories, observer);
  const TrainingInputs inputs(data, histories, device);
  const std::vector<int64_t> train_rows = targets_of(data.events, Part::kTrain, Part::kTrain);
  const std::vector<int64_t> valid_rows = targets_of(data.events, Part::kValid, Part::kValid);
  const std::vector<int64_t> test_rows = targets_of(data.events, Part::kTest, Part::kTest);
  timer.end("read");

  FitTask task{"train", train_rows,
               sample(valid_rows, config.evaluation.valid_rows, config.training.seed), Part::kTrain,
               config.training.epochs};
  if (valid_rows.empty()) {
    observer.on_message(concat("No validation events: all ", task.epochs,
                               " epochs are run without early stopping."));
  }
  FitResult fit = fit_towers(inputs, architecture, config, exclude_seen, task, observer);
  timer.end("train");
  nlohmann::json epochs = fit.epochs;
  Memory memory =
      fit_memory(*fit.towers, inputs, task.valid, config.training, exclude_seen, observer);
  timer.end("memory");
  TrainResult result;
  result.report = {{"counts", data.counts},
                   {"best_epoch", fit.best_epoch},
                   {"baselines", nlohmann::json::object()},
                   {"test", nlohmann::json::object()}};
  if (test_rows.empty()) {
    observer.on_message("No test events: nothing is reported beyond the validation.");
  } else {
    result.report["test"] =
        evaluate_towers(*fit.towers, inputs, test_rows, config.evaluation.k, exclude_seen, memory)
            .metrics;
    timer.end("evaluate");
    if (config.evaluation.baselines) {
      result.report["baselines"] = measure_baselines(inputs, config, test_rows, exclude_seen);
      compare(result.report, concat("ndcg@", config.evaluation.k.front()), observer);
      timer.end("baselines");
    }
  }

  // What is exported has learned from everything; of files that are given as a test, nothing.
  const Part last = config.data.split == "given" ? Part::kValid : Part::kTest;
  const int64_t all = std::count_if(data.events.part.begin(), data.events.part.end(),
                                    [&](Part p) { return p <= last; });
  const bool refit = !fit.stopped && decide_refit(config.training, data.count(Part::kTrain), all);
  if (refit) {
    task = {"refit", targets_of(data.events, Part::kTrain, last), {}, last, fit.best_epoch};
    fit = fit_towers(inputs, architecture, config, exclude_seen, task, observer);
    for (const auto& epoch : fit.epochs) epochs.push_back(epoch);
    timer.end("refit");
    if (memory.followers.on()) {
      const float strength = memory.followers.strength;
      memory.followers =
          count_followers(data.events, histories, data.users.size(), data.items.size(), last);
      memory.followers.strength = strength;
    }
  }
  const Part learned = refit ? last : Part::kTrain;
  tell_of_vocabularies(fit.vocabularies, observer);
  result.report["epochs"] = epochs;
  result.report["refit"] = refit;
  if (!fit.vocabularies.empty()) result.report["vocabularies"] = fit.vocabularies;
  result.report["memory"] = {{"followers", memory.followers.strength},
                             {"habits", memory.habits.weight},
                             {"scale", memory.habits.scale},
                             {"fading", memory.habits.fading},
                             {"match", memory.habits.match}};
  result.model = export_model(*fit.towers, inputs,
                              {.exclude_seen = exclude_seen,
                               .seed = static_cast<uint64_t>(config.training.seed),
                               .people_of_test = config.data.split != "given",
                               .memory = std::move(memory)});
  timer.end("export");
  result.report["seconds"] = timer.report();
  result.report["settings"] = config.to_json();
  result.model.metrics = {{"test", result.report["test"]},
                          {"baselines", result.report["baselines"]}};
  result.model.training = {{"settings", config.to_json()},
                           {"counts", data.counts},
                           {"best_epoch", result.report["best_epoch"]},
                           {"refit", refit},
                           {"device", device.str()},
                           {"popular", most_popular(item_counts(data, learned))},
                           {"recent_popular", most_popular(recent_item_counts(data, learned))}};
  return result;
}

}  // namespace

TrainResult train(const ConfigTree& config, const TrainData& data, TrainObserver& observer) {
  StageTimer timer;
  TrainerConfig settings = TrainerConfig::from_config(config);
  const Schema schema = Schema::from_config(config);
  const Architecture architecture = Architecture::from_config(config);
  const at::Device device = device_for(settings.training);
  const int64_t threads = settings.training.threads;
  at::set_num_threads(threads > 0 ? static_cast<int>(threads) : hardware_threads());
  const Deterministic deterministic;
  Dataset dataset = load_dataset(schema, settings.data, data, observer);
  const int64_t length = config.has("history.length") ? schema.history_length : 0;
  const Decisions decisions = decide(architecture, !config.has("model.dim"), settings.training,
                                     length, dataset, settings.data.split);
  observer.on_message(decisions.text);
  settings.training = decisions.training;
  dataset.features.set_history_length(decisions.history_length);
  return train_on(dataset, decisions.architecture, settings, device, timer, observer);
}

}  // namespace hypertower
