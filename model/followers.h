// Which items people take soon after which: what a dot product of two towers does not say well. The
// trainer counts it (trainer/count_followers.h), the model directory keeps it, and the scores of a
// request become
//
//   score(i) = <q, v_i> + ln(1 + strength * sum over r = 0..4 of 0.6^(r+1) share(j_r, i))
//
// where j_0 is the latest item of the history, j_1 the one before it, and share(j, i) the share of
// i among what followed j. Retrieval stays exact: the second term is not zero for at most 160 items
// of a request, whose scores are adjusted (kernels/topk.h).
//
// A plain value, thread-safe to share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/score_deltas.h"

namespace hypertower {

struct Followers {
  static constexpr int64_t kPerItem = 32;  // kept of each item, the most frequent

  // Of item j: items[offsets[j], offsets[j + 1]) with their shares. Items that came after training
  // have none.
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> items;
  std::vector<float> shares;
  float strength = 0.0F;  // 0: off

  bool on() const { return strength > 0.0F; }
  // What `strength` multiplies, by item, ascending, of a history, oldest first, whose events of
  // weight zero count as not there. REQUIRES: equal lengths.
  ScoreDeltas of(std::span<const int64_t> history, std::span<const float> weights) const;
  // What is added to the score of an item with that sum.
  float delta(float sum) const;
};

// Error(kModel) in one sentence: offsets, items or shares that no table of `num_items` has.
void check_followers(const Followers& followers, int64_t num_items);

}  // namespace hypertower
