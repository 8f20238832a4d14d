// Items as int8, laid out for the first pass of the top-K, with what its error bound needs.
//
// Columns are balanced first: with a center m and weights w, powers of two,
//
//   q . x = q . m + sum over j of (q_j / w_j) (w_j (x_j - m_j))
//
// so a column that is far from zero or much larger than the others, such as a bias, does not take
// the others' digits away. Let x and q be balanced from here on. A row x becomes s * c with whole
// numbers c in [-127, 127] and s = max|x| / 127; a query q becomes t * e in the same way, and
//
//   |q . x - s t (e . c)|  <=  |q| |x - s c| + |q - t e| |s c|          (norms are Euclidean)
//
// What is stored of an item is c, s and bounds of the two norms; all norms are rounded up. In units
// of s t the bound is  (|q| / t) (|x - s c| / s) + (|q - t e| / t) |c|,  numbers of moderate size.
//
// A tile holds 48 items column by column: four columns of one item are one 32-bit word, 48 words
// are one step, as the dot-product instructions of x86 want it. Bytes are c + 128. Items are
// sorted by their scale within blocks, so that the items of a tile share their bounds almost
// without loss. Tiles do not lie in the order of their items: any first part of them is spread over
// the whole catalogue, so that it is a sample whatever order the items came in.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor.h"

namespace hypertower::cpu {

inline constexpr int kTileItems = 48;
inline constexpr int64_t kBlockTiles = 96;  // sorted together
inline constexpr int64_t kBlockItems = kBlockTiles * kTileItems;
// Sums of products stay far inside 32 bits.
inline constexpr int64_t kMaxDim = 32768;
// Beyond it sums of kMaxDim products could overflow a float; such items and queries are scored
// exactly at once.
inline constexpr float kMaxMagnitude = 0x1p56F;

// A place of a tile.
struct Slot {
  float scale = 0.0F;
  uint32_t item = 0;  // row of the matrix; kNoItem in places past the end
  bool operator==(const Slot&) const = default;
};
inline constexpr uint32_t kNoItem = UINT32_MAX;

// What every item of a tile satisfies; computed in double, rounded outwards.
struct TileBounds {
  float min_inverse_scale = 0.0F;
  float max_inverse_scale = 0.0F;
  float max_residual = 0.0F;  // |x - s c| / s; infinite: score these items exactly
  float max_norm = 0.0F;      // |c|
};

// Views of quantised rows; what they point to is owned by others.
struct Tiles {
  const float* center = nullptr;   // [dim]
  const float* weight = nullptr;   // [dim], powers of two
  const uint8_t* bytes = nullptr;  // [tiles, steps, 48, 4]; best at a cache line
  const TileBounds* bounds = nullptr;
  const Slot* slots = nullptr;  // [tiles, 48]
  int64_t tiles = 0;
  int64_t steps = 0;

  int64_t tile_bytes() const { return steps * kTileItems * 4; }
  const uint8_t* tile(int64_t t) const { return bytes + t * tile_bytes(); }
};

inline int64_t steps_of(int64_t dim) {
  return (dim + 3) / 4;
}
inline int64_t tiles_of(int64_t items) {
  return (items + kTileItems - 1) / kTileItems;
}

// The order of tiles: place p holds the tile of items at `tile_at(p)`, which steps through all of
// them by the golden section, rounded to a step that reaches each once (Knuth, vol. 3, 6.4).
class TileOrder {
 public:
  explicit TileOrder(int64_t tiles);
  int64_t tile_at(int64_t place) const { return place * step_ % tiles_; }
  int64_t place_of(int64_t tile) const { return tile * inverse_ % tiles_; }

 private:
  int64_t tiles_, step_, inverse_;
};

// The middle of each column and the power of two that brings its spread closest to one, from some
// thousands of rows. REQUIRES: rows are finite. center, weight: [cols].
void balance_columns(MatrixView<const float> items, float* center, float* weight);

// Quantises rows [first, first + count) of `items`, at most kBlockItems, into tiles_of(count)
// tiles of their own. Slots name rows of `items`. REQUIRES: rows are finite, 1 <= cols <= kMaxDim.
struct QuantizedBlock {
  std::vector<uint8_t> bytes;      // [tiles, steps, 48, 4]
  std::vector<TileBounds> bounds;  // [tiles]
  std::vector<Slot> slots;         // [tiles, 48]
};
void quantize_block(MatrixView<const float> items, int64_t first, int64_t count,
                    const float* center, const float* weight, QuantizedBlock* block);

// A query as whole numbers. Writes steps_of(dim) * 4 of them, the last ones 0.
struct QuantizedQuery {
  double center = 0.0;  // q . m
  float scale = 1.0F;
  float residual = 0.0F;  // |q - t e|, rounded up
  float norm = 0.0F;      // |q|, rounded up
};
QuantizedQuery quantize_query(const float* query, int64_t dim, const float* center,
                              const float* weight, int8_t* out);

}  // namespace hypertower::cpu
