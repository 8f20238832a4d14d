// The numbers of a top-K call: how many candidates a row may store, which tiles set the thresholds,
// how far the ranks of the guesses lie. Pure; the device runs it where only the device knows how
// many items a mask passes.
#pragma once

#include "kernels/host_device.h"

#include <cmath>
#include <cstdint>

namespace hypertower::cuda {

// Some of the tiles: every `unit`-th, without every `skip`-th of those where skip > 1.
struct TileSet {
  int count;
  int unit;
  int skip;

  HYPERTOWER_HOST_DEVICE int operator[](int i) const {
    return unit * (skip > 1 ? i + i / (skip - 1) + 1 : i);
  }
};

// A first sample, a larger one without the first, what both left, or every tile.
enum class TileStep : uint8_t { kSeed, kWarm, kRest, kAll };

// Every seed-th tile is looked at first, with all its items as candidates; then every warm-th, then
// the rest. warm == seed: no second step. seed == 1: the first step looks at all.
struct TilePlan {
  int tiles;
  int seed, warm;
  int64_t seed_rank, warm_rank;

  HYPERTOWER_HOST_DEVICE TileSet tiles_of(TileStep step) const {
    const int seeds = (tiles + seed - 1) / seed;
    const int warms = (tiles + warm - 1) / warm;
    switch (step) {
      case TileStep::kSeed:
        return {seeds, seed, 0};
      case TileStep::kWarm:
        return {warms - seeds, warm, seed / warm};
      case TileStep::kRest:
        return {tiles - warms, 1, warm};
      case TileStep::kAll:
        break;
    }
    return {tiles, 1, 0};
  }
};

// With a share 1 / stride of the items, how many of them must reach a score for `keep` of all items
// to reach it as well: of the best, a Poisson number of mean keep / stride is in the sample, and it
// exceeds the rank about once in a million rows. Wrong guesses cost a repair.
HYPERTOWER_HOST_DEVICE inline int64_t guess_rank(int64_t keep, int64_t stride) {
  const double mean = static_cast<double>(keep) / static_cast<double>(stride);
  const auto rank = static_cast<int64_t>(ceil(mean + 4.5 * sqrt(mean) + 5.0));
  return rank < keep ? rank : keep;
}

// What a search keeps and may store, whatever the tiles.
struct RowPlan {
  int64_t keep;      // k, or all items
  int64_t capacity;  // candidates of a row
  // Of the plans; 0: by the capacity. For tests.
  int seed_stride, warm_stride;
};

// REQUIRES: the best `keep` are of so many tiles of item_tile items.
HYPERTOWER_HOST_DEVICE inline TilePlan plan_tiles(const RowPlan& rows, int tiles, int item_tile) {
  const int64_t half = rows.capacity / 2 / item_tile;
  const int seed_tiles = half < 1 ? 1 : static_cast<int>(half < tiles ? half : tiles);
  TilePlan plan{};
  plan.tiles = tiles;
  plan.seed = rows.seed_stride;
  plan.warm = rows.warm_stride;
  if (plan.seed == 0) {
    const bool all_fit = int64_t{tiles} * item_tile <= rows.capacity;
    plan.seed = all_fit ? 1 : (tiles + seed_tiles - 1) / seed_tiles;
    // A first threshold from few items lets many pass; one more step over a sixteenth repairs that.
    if (plan.seed >= 64) {
      plan.warm = 16;
      plan.seed = (plan.seed + 15) / 16 * 16;
    }
  }
  if (plan.warm == 0) plan.warm = plan.seed;
  plan.seed_rank = guess_rank(rows.keep, plan.seed);
  plan.warm_rank = guess_rank(rows.keep, plan.warm);
  return plan;
}

}  // namespace hypertower::cuda
