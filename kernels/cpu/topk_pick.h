// The items that pass each row's own mask, by the place of their codes: for rows whose masks differ
// and let so few items through that a scan would be wasted on most, and yet so many that their
// vectors, far apart in memory, would take longer than all codes in the order of memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/topk_scan.h"

namespace hypertower::cpu {

struct Picked {
  uint32_t row;   // of those that take part
  uint32_t slot;  // of the shard: tile * kTileItems + lane
};

// Immutable once built. Memory: 8 bytes for each row and item that passes its mask, twice.
class PickedItems {
 public:
  static constexpr int64_t kPartTiles = 96;

  // Rows that may be picked for at once, to bound the memory. At least 1.
  static int64_t rows_at_once(const Shard& shard, std::span<const ScanRow> rows);

  // REQUIRES: the shard has tiles; every row has a mask.
  PickedItems(const Shard& shard, std::span<const ScanRow> rows, int threads);

  // Consecutive tiles of the shard.
  int64_t parts() const { return parts_; }
  // What lies in one part, tile by tile; `begin` gets where each of its tiles begins, and the end.
  void part(int64_t part, std::vector<Picked>* sorted, std::vector<int64_t>* begin) const;

 private:
  using Buckets = std::vector<std::vector<Picked>>;  // [parts]

  void pick_block(const Shard& shard, std::span<const ScanRow> rows, int64_t block,
                  Buckets* buckets) const;

  int64_t parts_;
  std::vector<Buckets> found_;  // by thread
};

}  // namespace hypertower::cpu
