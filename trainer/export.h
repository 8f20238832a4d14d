// Trained towers -> a model that serves without torch, and the proof that both answer alike.
#pragma once

#include <cstdint>

#include "model/model_directory.h"
#include "trainer/inputs.h"
#include "trainer/two_tower.h"

namespace hypertower {

struct ExportOptions {
  bool exclude_seen = false;
  uint64_t seed = 0;           // of the golden requests
  bool people_of_test = true;  // whether people's histories hold the events of the test part
  Memory memory = {};
};

// Weights, catalogue (vectors, attributes), people and golden answers; metrics and training are
// left to the caller. Error(kModel) when the exported encoder and the towers differ by more than
// 1e-5 (relative to vectors longer than 1) in any item vector or golden query.
ModelData export_model(TwoTower& towers, const TrainingInputs& inputs,
                       const ExportOptions& options);

}  // namespace hypertower
