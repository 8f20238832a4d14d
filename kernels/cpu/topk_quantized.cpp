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
  parallel_for(threads, items.rows, kBlockItems, [&](int64_t begin, int64_t end) {
    const int64_t tile = begin / kTileItems;
    quantize_block(items, begin, end - begin, tiles_.center, tiles_.weight,
                   bytes + tile * tiles_.tile_bytes(), bounds + tile, slots + tile * kTileItems);
  });
}

int64_t bytes_of(const Tiles& tiles) {
  return tiles.tiles * (tiles.tile_bytes() + static_cast<int64_t>(sizeof(TileBounds)) +
                        kTileItems * static_cast<int64_t>(sizeof(Slot)));
}

}  // namespace hypertower::cpu
