// A model with every kind of feature in every group and random weights, for tests.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "model/model_directory.h"

namespace hypertower {

struct RandomModelOptions {
  int64_t items = 40;
  int64_t unseen_items = 3;  // at the end of the catalogue, without a row of item.id.weight
  int64_t dim = 12;
  Head head = Head::kBilinear;
  HistoryEncoder history = HistoryEncoder::kPools;
  uint64_t seed = 1;
};

// Items are "i0", "i1", ...; genre of item i: "g<i % 5>" and "h<i % 3>"; brand "b<i % 7>" (missing
// for i % 7 == 6); year 1990 + i % 20 (missing for i % 10 == 9). Without golden answers and people.
ModelData random_model(const RandomModelOptions& options = {});

// The features of item i of the random model.
Record item_record(int64_t i);

}  // namespace hypertower
