// The numbers of a top-K call that its host code decides: how many candidates a row may store,
// which tiles set the thresholds, how far the ranks of the guesses lie. Pure.
#pragma once

#include "kernels/cuda/topk.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace hypertower::cuda {

struct TopKPlan {
  int64_t keep;      // k, or all items
  int64_t capacity;  // candidates of a row
  // Every seed-th tile is looked at first, with all its items as candidates; then every warm-th,
  // then the rest. warm == seed: no second step. seed == 1: the first step looks at all.
  int seed, warm;
  int64_t seed_rank, warm_rank;
};

// With a share 1 / stride of the items, how many of them must reach a score for k of all items to
// reach it as well: of the best k, a Poisson number of mean k / stride is in the sample, and it
// exceeds the rank about once in a million rows. Wrong guesses cost a repair.
inline int64_t guess_rank(int64_t keep, int64_t stride) {
  const double mean = static_cast<double>(keep) / static_cast<double>(stride);
  return std::min(keep, static_cast<int64_t>(std::ceil(mean + 4.5 * std::sqrt(mean) + 5.0)));
}

inline TopKPlan make_plan(int64_t items, int64_t k, int64_t item_tile, const TopKOptions& options) {
  TopKPlan plan{};
  plan.keep = std::min(k, items);
  plan.capacity = options.capacity > 0 ? std::max(options.capacity, plan.keep)
                                       : std::min(items, 8192 + 4 * plan.keep);
  const int64_t tiles = (items + item_tile - 1) / item_tile;
  const int64_t seed_tiles = std::max<int64_t>(1, plan.capacity / 2 / item_tile);
  plan.seed = static_cast<int>(options.seed_stride);
  plan.warm = static_cast<int>(options.warm_stride);
  if (plan.seed == 0) {
    const bool all_fit = tiles * item_tile <= plan.capacity;
    plan.seed = all_fit ? 1 : static_cast<int>((tiles + seed_tiles - 1) / seed_tiles);
    // A first threshold from few items lets many pass; one more step over a sixteenth repairs that.
    if (plan.seed >= 64) {
      plan.warm = 16;
      plan.seed = (plan.seed + 15) / 16 * 16;
    }
  }
  if (plan.warm == 0) plan.warm = plan.seed;
  plan.seed_rank = guess_rank(plan.keep, plan.seed);
  plan.warm_rank = guess_rank(plan.keep, plan.warm);
  return plan;
}

}  // namespace hypertower::cuda
