// Hard negatives: the items that the towers themselves rank best for the rows of a batch. As
// columns of a sampled softmax they are the head of its sum, exact; the sampled columns then stand
// for the rest alone, so the estimate has little variance where it matters. Being there for certain
// they have logQ 0 (sampler.h).
//
// Ranks are those of item vectors that are made anew every kRefresh batches.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/catalogue_index.h"
#include "trainer/inputs.h"
#include "trainer/two_tower.h"

namespace hypertower {

class HardNegatives {
 public:
  static constexpr int64_t kRefresh = 200;

  // `per_row` best items of each event, with `exclude_seen` without those of its history. Keeps
  // references, which must outlive it.
  HardNegatives(TwoTower& towers, const TrainingInputs& inputs, int64_t per_row, bool exclude_seen);

  // Distinct items, ascending. Leaves the towers training.
  std::vector<int64_t> mine(std::span<const int64_t> events);

 private:
  TwoTower& towers_;
  const TrainingInputs& inputs_;
  int64_t per_row_;
  bool exclude_seen_;
  std::optional<CatalogueIndex> index_;
  int64_t batches_ = 0;
};

}  // namespace hypertower
