// The first pass over one tile (topk_tiles.h) for a group of queries: whole-number dot products
// against a whole-number threshold per query, in the instructions of this machine. The result of
// this pass is a set of items that may reach the gate, so tiers may not differ in anything but
// speed: all compute the same integers.
#pragma once

#include <cstdint>

#include "kernels/cpu/topk_tiles.h"

namespace hypertower::cpu {

// What the processor offers for int8 products, best last.
enum class Int8Tier : uint8_t { kNone, kAvx2, kAvxVnni, kAvx512Vnni };
Int8Tier best_int8_tier();
bool is_offered(Int8Tier tier);  // kNone always is

inline constexpr int kMaxGroup = 8;

// Up to eight quantised queries. `width` is 1, 2, 4 or 8; places without a query have an infinite
// gate. Gates and norms are divided by the scale of their query.
struct alignas(64) QueryGroup {
  float gate[kMaxGroup];      // scores below it are of no interest
  float norm[kMaxGroup];      // |q|
  float residual[kMaxGroup];  // |q - t e|
  int32_t offset[kMaxGroup];  // 128 * sum of e: what the bytes' shift adds to a product
  const int8_t* bytes;        // [steps, width, 4]
  int width;
};

struct alignas(64) TileHits {
  int32_t product[kMaxGroup * kTileItems];  // e . c minus the threshold
  uint64_t lanes[kMaxGroup];                // bit i: place i reaches the threshold
  int32_t threshold[kMaxGroup];
  float slack[kMaxGroup];  // the error bound of this tile, in units of both scales
};

// Bit q of the result: query q has lanes; then its entries in `hits` are set. Places past the end
// of the items may be among the lanes. Asks memory for `lines` <= 3 cache lines per step from
// `next` on.
using Int8Pass = uint32_t (*)(const uint8_t* tile, const TileBounds& bounds,
                              const QueryGroup& group, int64_t steps, const char* next, int lines,
                              TileHits* hits);

// REQUIRES: is_offered(tier), not kNone; width 1, 2, 4 or 8.
Int8Pass int8_pass(Int8Tier tier, int width);

// The whole-number product of one query [steps, 4] with the bytes of one item: `item` points to its
// place in the first step of a tile. REQUIRES: is_offered(tier).
int32_t int8_product(Int8Tier tier, const uint8_t* item, const int8_t* query, int64_t steps);

}  // namespace hypertower::cpu
