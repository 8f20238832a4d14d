#include "kernels/cpu/topk_pick.h"

#include <algorithm>
#include <bit>

#include "kernels/cpu/topk_route.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kPickedAtOnce = int64_t{1} << 20;

int64_t blocks_of(int64_t items) {
  return (items + kBlockItems - 1) / kBlockItems;
}

}  // namespace

int64_t PickedItems::rows_at_once(const Shard& shard, std::span<const ScanRow> rows) {
  int64_t sum = 0, count = 0;
  for (const ScanRow& row : rows) {
    sum += count_passing(shard, row.mask);
    if (sum > kPickedAtOnce && count > 0) break;
    ++count;
  }
  return std::max<int64_t>(1, count);
}

PickedItems::PickedItems(const Shard& shard, std::span<const ScanRow> rows, int threads)
    : parts_((shard.tiles.tiles + kPartTiles - 1) / kPartTiles) {
  const int64_t blocks = blocks_of(shard.rows.rows);
  const auto workers = std::min<int64_t>(threads, blocks);
  found_.assign(static_cast<size_t>(workers), Buckets(static_cast<size_t>(parts_)));
  parallel_for(threads, workers, 1, [&](int64_t w, int64_t) {
    for (int64_t b = blocks * w / workers; b < blocks * (w + 1) / workers; ++b) {
      pick_block(shard, rows, b, &found_[static_cast<size_t>(w)]);
    }
  });
}

// Tiles are sorted by scale within blocks, so the places of a block's items are found by reading
// its slots once, for all rows.
void PickedItems::pick_block(const Shard& shard, std::span<const ScanRow> rows, int64_t block,
                             Buckets* buckets) const {
  const TileOrder order(shard.tiles.tiles);
  const int64_t first = block * kBlockItems, end = std::min(first + kBlockItems, shard.rows.rows);
  constexpr int64_t kAhead = 6;  // tiles; their slots lie anywhere
  uint32_t slot_of_item[kBlockItems];
  for (int64_t t = block * kBlockTiles; t < block * kBlockTiles + tiles_of(end - first); ++t) {
    const int64_t place = order.place_of(t);
    const Slot* ahead = shard.tiles.slots +
                        order.place_of(std::min(t + kAhead, shard.tiles.tiles - 1)) * kTileItems;
    for (int i = 0; i < kTileItems; i += 8) __builtin_prefetch(ahead + i);
    for (int i = 0; i < kTileItems; ++i) {
      const auto slot = static_cast<uint32_t>(place * kTileItems + i);
      const uint32_t item = shard.tiles.slots[slot].item;
      if (item != kNoItem) slot_of_item[item - first] = slot;
    }
  }
  for (size_t r = 0; r < rows.size(); ++r) {
    for_each_passing(shard, rows[r].mask, first, end, [&](int64_t item) {
      const uint32_t slot = slot_of_item[item - first];
      (*buckets)[slot / (kPartTiles * kTileItems)].push_back({static_cast<uint32_t>(r), slot});
    });
  }
}

void PickedItems::part(int64_t part, std::vector<Picked>* sorted,
                       std::vector<int64_t>* begin) const {
  const int64_t first_tile = part * kPartTiles;
  const auto tile = [&](const Picked& p) { return p.slot / kTileItems - first_tile; };
  begin->assign(kPartTiles + 1, 0);
  for (const Buckets& buckets : found_) {
    for (const Picked& p : buckets[static_cast<size_t>(part)]) ++(*begin)[tile(p) + 1];
  }
  for (int64_t t = 0; t < kPartTiles; ++t) (*begin)[t + 1] += (*begin)[t];
  sorted->resize(static_cast<size_t>(begin->back()));
  std::vector<int64_t> next = *begin;
  for (const Buckets& buckets : found_) {
    for (const Picked& p : buckets[static_cast<size_t>(part)]) (*sorted)[next[tile(p)]++] = p;
  }
}

}  // namespace hypertower::cpu
