// The columns of a sampled softmax: the batch's own targets and uniform negatives, each item once.
//
// Drawing with replacement gives duplicates, and a target may be drawn as a negative (an accidental
// hit); listing each item once removes both. What an item's column stands for is then corrected by
// the probability that the item is in the list at all (logQ by inclusion):
//   pi_i = 1 - (1 - 1/N)^negatives * exp(-batch * count_i / total count)
// and pi_i = 1 for items that are listed for certain (hard_negatives.h).
// Bengio & Senecal 2003; Yi et al. 2019. Without this correction in-batch negatives punish popular
// items for being popular, which is why it cannot be switched off.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/random.h"

namespace hypertower {

struct Candidates {
  std::vector<int64_t> items;   // ascending, distinct
  std::vector<float> logq;      // per item
  std::vector<int64_t> target;  // per row of the batch: its place in `items`
};

// Immutable, thread-safe.
class CandidateSampler {
 public:
  // `counts`: how often each item is a target of the training events.
  CandidateSampler(std::vector<float> counts, int64_t negatives, uint64_t seed);

  // The columns of step number `step` for a batch with these targets. `certain`: items to list
  // besides, ascending and distinct.
  Candidates draw(std::span<const int64_t> targets, int64_t step,
                  std::span<const int64_t> certain = {}) const;

 private:
  std::vector<float> counts_;
  double total_ = 0;
  int64_t negatives_;
  CounterRandom random_;
};

}  // namespace hypertower
