// What the data decides where the config leaves it open: how histories are read, how far back, and
// the settings that go with that. The rules come from measurements on data sets of 1,500 to a
// million events (docs/benchmarks/quality.md). Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "model/architecture.h"
#include "trainer/config.h"
#include "trainer/dataset.h"

namespace hypertower {

struct Decisions {
  Architecture architecture;  // history says pools or transformer
  TrainingConfig training;    // nothing is left to a rule but the size of batches
  int64_t history_length = 0;
  std::string text;  // what was decided and why, a sentence or two
};

// `history_length` 0: open, as are the settings that config.h calls "by rule" and, where it says
// so, architecture.dim.
Decisions decide(const Architecture& architecture, bool dim_is_open, const TrainingConfig& training,
                 int64_t history_length, const Dataset& data, const std::string& split);

// People of a batch: training.batch_size, or by rule (0) 256.
int64_t people_per_batch(const TrainingConfig& training);
// Tokens of a batch of windows: training.batch_size, or by rule (0) 1024 and from 300,000 targets
// on 2048.
int64_t tokens_per_batch(const TrainingConfig& training, int64_t targets);

}  // namespace hypertower
