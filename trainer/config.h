// The settings of [data], [training] and [evaluation]. Each is named once, in `visit` in
// config.cpp: that table parses the file, prints the help and writes the resolved settings into the
// model. Plain values; thread-safe to share.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/config_tree.h"

namespace hypertower {

struct DataConfig {
  std::string events;
  std::string items;
  std::string users;
  std::string valid;
  std::string test;
  std::string separator = ",";
  std::string split = "time";
  double valid_fraction = 0.1;
  double test_fraction = 0.1;
  bool sessions = false;
  std::string unknown_items = "keep";
};

// Where a default says "by rule" (0, -1 or "auto"), the data decides: decide.h.
struct TrainingConfig {
  std::string loss = "auto";
  int64_t full_softmax_items = 20000;
  int64_t negatives = -1;  // -1: by rule
  int64_t hard_negatives = 0;
  int64_t epochs = 0;      // 0: by rule
  int64_t patience = -1;   // -1: by rule
  int64_t batch_size = 0;  // 0: by rule
  double lr = 0;           // 0: by rule
  std::string table_optimizer = "auto";
  double table_lr = 0;       // 0: by rule
  double weight_decay = -1;  // -1: by rule
  int64_t warmup_steps = 50;
  double dropout = -1;  // -1: by rule
  double user_dropout = 0.1;
  double context_dropout = 0.1;
  double moment_dropout = 0.1;
  std::string item_start = "svd";
  std::string followers = "auto";
  std::string habits = "auto";
  double start_scale = 0.02;
  std::string refit = "auto";
  int64_t seed = 0;
  int64_t threads = 0;
  std::string device = "auto";
};

struct EvaluationConfig {
  std::vector<int64_t> k = {10, 20};
  std::string exclude_seen = "auto";
  int64_t valid_rows = 5000;
  bool baselines = true;
};

struct TrainerConfig {
  DataConfig data;
  TrainingConfig training;
  EvaluationConfig evaluation;

  // Errors (kSchema): unknown section or key (nearest name), wrong type, value out of its range;
  // each with file and line. Sections of the schema and the model are left to their own rooms.
  static TrainerConfig from_config(const ConfigTree& config);
  nlohmann::json to_json() const;  // {"data.split": "time", "training.lr": 0.001, ...}
};

}  // namespace hypertower
