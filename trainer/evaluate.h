// Exact metrics of the towers over the whole catalogue, with the serving top-K, inside the loop.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "trainer/catalogue_index.h"
#include "trainer/inputs.h"
#include "trainer/two_tower.h"

namespace hypertower {

struct Evaluation {
  nlohmann::json metrics;  // as RankMetrics::to_json
  // Mean of 1 / log2(1 + rank) over the full ranking: what early stopping goes by. Unlike the loss
  // it does not punish confidence, unlike ndcg@10 it moves with every rank.
  double gain = 0;
};

// Each event is ranked with the history strictly before it and what `memory` adds to that;
// with `exclude_seen` what that history holds is left out, and an event whose own item is left out
// is a miss. Leaves the module in evaluation mode.
Evaluation evaluate_towers(TwoTower& towers, const TrainingInputs& inputs,
                           std::span<const int64_t> events, std::span<const int64_t> lengths,
                           bool exclude_seen, const Memory& memory = {});

// Scores [rows, N] of the whole catalogue; what was seen scores -infinity.
at::Tensor all_scores(const at::Tensor& queries, const at::Tensor& items, const SeenItems& seen);
at::Tensor adjusted_scores(const at::Tensor& scores, const Adjustments& adjust);
// Sum over rows of 1 / log2(1 + rank of the target) once the scores are adjusted, ties at their
// mean rank.
double rank_gain(const at::Tensor& scores, const Adjustments& adjust,
                 std::span<const int64_t> targets);
std::vector<int64_t> targets_of(const TrainingInputs& inputs, std::span<const int64_t> events);

// Query vectors [events, d] and item vectors [N, d] in evaluation mode, without gradients.
at::Tensor encode_catalogue(TwoTower& towers, const TrainingInputs& inputs);
at::Tensor encode_queries(TwoTower& towers, const TrainingInputs& inputs,
                          const at::Tensor& item_vectors, std::span<const int64_t> events);

}  // namespace hypertower
