#include "kernels/cpu/topk_quantized.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace hypertower::cpu {

QuantizedItems::QuantizedItems(MatrixView<const float> items, int threads) {
  if (items.rows == 0 || items.cols < 1 || items.cols > kMaxDim) return;
  tiles_.tiles = tiles_of(items.rows);
  tiles_.steps = steps_of(items.cols);
  bytes_ = HugeBuffer(static_cast<size_t>(tiles_.tiles * tiles_.tile_bytes()));
  bounds_ = HugeBuffer(static_cast<size_t>(tiles_.tiles) * sizeof(TileBounds));
  slots_ = HugeBuffer(static_cast<size_t>(tiles_.tiles * kTileItems) * sizeof(Slot));
  auto* bytes = reinterpret_cast<uint8_t*>(bytes_.data());
  auto* bounds = reinterpret_cast<TileBounds*>(bounds_.data());
  auto* slots = reinterpret_cast<Slot*>(slots_.data());
  tiles_.bytes = bytes;
  tiles_.bounds = bounds;
  tiles_.slots = slots;
  center_.resize(static_cast<size_t>(items.cols));
  weight_.resize(center_.size());
  balance_columns(items, center_.data(), weight_.data());
  tiles_.center = center_.data();
  tiles_.weight = weight_.data();
  const TileOrder order(tiles_.tiles);
  parallel_for(threads, items.rows, kBlockItems, [&](int64_t begin, int64_t end) {
    QuantizedBlock block;
    quantize_block(items, begin, end - begin, tiles_.center, tiles_.weight, &block);
    for (int64_t t = 0; t < static_cast<int64_t>(block.bounds.size()); ++t) {
      const int64_t place = order.place_of(begin / kTileItems + t);
      std::copy_n(block.bytes.begin() + t * tiles_.tile_bytes(), tiles_.tile_bytes(),
                  bytes + place * tiles_.tile_bytes());
      std::copy_n(block.slots.begin() + t * kTileItems, kTileItems, slots + place * kTileItems);
      bounds[place] = block.bounds[static_cast<size_t>(t)];
    }
  });
}

int64_t bytes_of(const Tiles& tiles) {
  return tiles.tiles * (tiles.tile_bytes() + static_cast<int64_t>(sizeof(TileBounds)) +
                        kTileItems * static_cast<int64_t>(sizeof(Slot)));
}

}  // namespace hypertower::cpu
