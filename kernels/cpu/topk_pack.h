// Puts the items of a mask that several rows share together: words of some lanes of a tile move to
// neighbouring lanes of another, step by step, as the tile comes from memory.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cpu/topk_tiles.h"

namespace hypertower::cpu {

// Lanes of a tile, [steps, 48, 4].
struct TileLanes {
  const uint8_t* tile;
  uint64_t lanes;  // bit i: lane i
};

// Copies lane i of each step of `from`, for the set bits i in ascending order, to lanes `place`,
// `place` + 1, ... of `to`, whose lanes below `place` stay; those above are undefined. Asks for the
// memory of `next` meanwhile. REQUIRES: place + popcount(from.lanes) <= 48.
void pack_lanes(TileLanes from, TileLanes next, int64_t steps, uint8_t* to, int place);

// The `count` lowest set bits.
inline uint64_t lowest_bits(uint64_t bits, int count) {
  if (std::popcount(bits) <= count) return bits;
  uint64_t rest = bits;
  for (int i = 0; i < count; ++i) rest &= rest - 1;
  return bits & ~rest;
}

}  // namespace hypertower::cpu
