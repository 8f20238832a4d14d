// Canonical scores (kernels/topk.h) of a few queries with a tile of items, in the widest vectors of
// this machine. A tile holds items column by column as doubles, so the vector runs over items and
// each item keeps its own eight lane sums: every instruction set gives the same bits.
#pragma once

#include <cstdint>
#include <vector>

namespace hypertower::cpu {

inline constexpr int kTileItems = 16;
inline constexpr int kTileQueries = 4;

// One column of a tile: dimension j of each item.
struct alignas(64) TileColumn {
  double of_item[kTileItems];
};

struct TileKernels {
  const char* name;  // of the instruction set

  // Fills `dim` columns from `count` <= kTileItems item rows, `stride` floats apart; places beyond
  // `count` become zero.
  void (*pack)(const float* items, int64_t stride, int count, int64_t dim, TileColumn* tile);

  // scores[q * kTileItems + i]; queries are rows of `dim` doubles, one after the other.
  void (*score_four)(const double* queries, const TileColumn* tile, int64_t dim, float* scores);
  void (*score_one)(const double* query, const TileColumn* tile, int64_t dim, float* scores);
};

// The fastest that this machine can run, chosen once.
const TileKernels& tile_kernels();

// All that it can run, fastest first; for tests.
std::vector<const TileKernels*> supported_tile_kernels();

}  // namespace hypertower::cpu
