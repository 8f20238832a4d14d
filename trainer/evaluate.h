// Exact metrics of the towers over the whole catalogue, with the serving top-K, inside the loop.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>

#include "trainer/inputs.h"
#include "trainer/two_tower.h"

namespace hypertower {

struct Evaluation {
  nlohmann::json metrics;  // as RankMetrics::to_json
  // Mean of 1 / log2(1 + rank) over the full ranking: what early stopping goes by. Unlike the loss
  // it does not punish confidence, unlike ndcg@10 it moves with every rank.
  double gain = 0;
};

// Each event is ranked with the history strictly before it; with `exclude_seen` what that history
// holds is left out, and an event whose own item is left out is a miss. Leaves the module in
// evaluation mode.
Evaluation evaluate_towers(TwoTower& towers, const TrainingInputs& inputs,
                           std::span<const int64_t> events, std::span<const int64_t> lengths,
                           bool exclude_seen);

// Query vectors [events, d] and item vectors [N, d] in evaluation mode, without gradients.
at::Tensor encode_catalogue(TwoTower& towers, const TrainingInputs& inputs);
at::Tensor encode_queries(TwoTower& towers, const TrainingInputs& inputs,
                          const at::Tensor& item_vectors, std::span<const int64_t> events);

}  // namespace hypertower
