// Canonical scores (kernels/topk.h) of a few queries with a tile of items, in the widest vectors of
// this machine. A tile holds items column by column as doubles, so the vector runs over items and
// each item keeps its own eight lane sums: every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace hypertower::cpu {

inline constexpr int kTileItems = 16;
inline constexpr int kTileQueries = 4;

// One column of a tile: dimension j of each item.
struct alignas(64) TileColumn {
  double of_item[kTileItems];
};

// Fills `dim` columns from `count` <= kTileItems item rows, `stride` floats apart; places beyond
// `count` become zero.
void pack_tile(const float* items, int64_t stride, int64_t count, int64_t dim, TileColumn* tile);

// scores[q * kTileItems + i] for `num_queries` <= kTileQueries queries, which are rows of `dim`
// doubles, one after the other.
void score_tile(const double* queries, int num_queries, const TileColumn* tile, int64_t dim,
                float* scores);

}  // namespace hypertower::cpu
