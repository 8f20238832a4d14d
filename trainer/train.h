// Training in one call: events in, a measured model out. The public API of the trainer; knows
// neither torch nor Arrow by include, so bindings and programs compile fast.
//
//   ConfigTree config = ConfigTree::from_toml_file("movielens.toml");
//   TrainObserver quiet;
//   TrainResult result = train(config, data_from_config(config, "data/"), quiet);
//   result.model.people.clear();                       // personal data: only when asked for
//   write_model_directory(result.model, "runs/movielens");
//
// Thread-safety: calls share nothing but the number of threads of LibTorch, which `train` sets for
// the process from training.threads; run one training at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "model/config_tree.h"
#include "model/model_directory.h"
#include "model/recommender.h"

namespace arrow {
class Table;
}

namespace hypertower {

// A table: either a file or glob (CSV, CSV.gz, Parquet; by the name's ending) or one in memory.
struct DataSource {
  std::string path;
  std::shared_ptr<arrow::Table> table;  // used when set; shared, never changed
  std::string cure = {};  // for a file that is missing: how to look elsewhere, a sentence

  bool given() const { return table != nullptr || !path.empty(); }
};

struct TrainData {
  DataSource events;  // required
  DataSource items;   // optional: without it an item is its id alone
  DataSource users;   // optional
  DataSource valid;   // optional, with data.split = "given"
  DataSource test;    // optional, with data.split = "given"
};

// The files that [data] names. Relative paths are looked up in `data_dir` when it is not empty,
// else beside the config file. Errors (kArgument): no events named, with how to give them.
TrainData data_from_config(const ConfigTree& config, const std::string& data_dir);

// What happens, as it happens. Called on the thread that called `train`; the default does nothing.
// An exception thrown from a callback ends the training and reaches the caller of `train`.
class TrainObserver {
 public:
  struct Progress {
    std::string stage;  // "read", "train", "refit", "evaluate", "export"
    int64_t done = 0;   // batches, rows or files
    int64_t total = 0;
    double per_second = 0;    // of `done`
    double seconds_left = 0;  // of this epoch
    int64_t epoch = 0;        // 1-based
  };

  virtual ~TrainObserver() = default;
  // One finding in one sentence: what was read, dropped, decided.
  virtual void on_message(const std::string& /*text*/) {}
  virtual void on_progress(const Progress& /*progress*/) {}
  // {"stage","epoch","epochs","train_loss","gain","seconds","recall@10", ...}; "refit" has no
  // metrics. Return false to stop cleanly: the best epoch so far is kept, evaluated and exported.
  virtual bool on_epoch(const nlohmann::json& /*metrics*/) { return true; }
};

struct TrainResult {
  // Ready for write_model_directory. `people` holds everybody's features and latest events.
  ModelData model;
  // {"test": {"recall@10": ...}, "baselines": {"popularity": {...}, "recent_popularity": {...},
  //  "item_knn": {...}}, "best_baseline", "beats_baselines", "counts": {...}, "epochs": [...],
  //  "seconds": {...}, "settings": {...}}
  nlohmann::json report;
};

// Reads, splits, trains with early stopping, evaluates beside baselines, trains what is exported on
// everything (training.refit), and checks that it answers as the trained towers do (1e-5). The
// figures of the report are those of the towers before: what is tested has seen no test event. Same
// config, data, seed and machine: same bits. Errors: kSchema / kArgument for the config, kData /
// kNumeric for the data with file, line and column, kNumeric when training diverges (names the
// parameter).
TrainResult train(const ConfigTree& config, const TrainData& data, TrainObserver& observer);

struct EvaluateOptions {
  std::vector<int64_t> k = {10, 20};
  std::string by;                        // "context.hour": the same metrics for each of its values
  const PeopleSource* people = nullptr;  // what is known of people before the first event
  std::optional<bool> exclude_seen;      // nullopt = the model's default
  std::string separator = ",";           // of CSV files
  Exec exec;                             // CPU
};

// Exact metrics of a model on an event file, whole catalogue: every event is asked for with the
// history that lies strictly before it: stored events and those of the file, each counted once
// when it has a time (without times, stored events come first).
// {"recall@10", "ndcg@10", ..., "events", "baselines": {"popularity": {...}, "recent_popularity":
// {...}}, "by": {"8": {...}}}. The baselines are the lists that training left in the model;
// item-kNN needs the training events, so only `train` measures it. Errors as in `train`; kSchema
// when `by` names no feature (nearest name).
nlohmann::json evaluate(const Recommender& model, const DataSource& events,
                        const EvaluateOptions& options);

// Every setting of [data], [training] and [evaluation] with its default, for --help.
std::string config_help();

}  // namespace hypertower
