// The training loop: batches in a seeded order, the loss, two optimizers, early stopping.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "trainer/config.h"
#include "trainer/inputs.h"
#include "trainer/train.h"
#include "trainer/two_tower.h"

namespace hypertower {

struct FitTask {
  std::string stage;           // "train" or "refit", for progress
  std::vector<int64_t> train;  // event rows
  std::vector<int64_t> valid;  // event rows to stop early by; empty: run all epochs
  Part last = Part::kTrain;    // of what towers may read
  int64_t epochs = 1;          // at most
};

struct FitResult {
  std::shared_ptr<TwoTower> towers;  // of the best epoch
  int64_t best_epoch = 0;            // 1-based
  bool stopped = false;              // by the observer
  nlohmann::json vocabularies;       // dynamic ones: name of the feature -> report
  nlohmann::json epochs;             // one object per epoch, as on_epoch gave them
};

// Trains fresh towers on the task. Loss: softmax cross entropy over the whole catalogue or over
// sampled columns (config.loss); with `exclude_seen` the items of a row's own history are no
// negatives. Learning rates warm up, then fall along a cosine over config.epochs.
// Errors: kNumeric when the loss or a parameter stops being finite, with its name and the step.
FitResult fit_towers(const TrainingInputs& inputs, const Architecture& architecture,
                     const TrainerConfig& config, bool exclude_seen, const FitTask& task,
                     TrainObserver& observer);

// Error(kNumeric) naming the first parameter that holds NaN or infinity, and the step.
void check_parameters(const TwoTower& towers, int64_t step);

}  // namespace hypertower
