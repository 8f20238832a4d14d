// Which rows of a request are searched in which way.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/topk_scan.h"
#include "kernels/topk.h"

namespace hypertower::cpu {

// Rows that are searched together. Exact ones list their items when they share a mask.
struct RowSet {
  enum class How : uint8_t { kScan, kPack, kGather, kExact };
  How how = How::kScan;
  std::vector<ScanRow> rows;
};

// Splits `rows`, whose masks are set, by what is cheapest for `items` items of `dim` columns.
std::vector<RowSet> route(std::vector<ScanRow> rows, int64_t items, int64_t dim, int64_t keep,
                          const SearchOptions& options);

// Rows of the shard that pass a mask and are live.
std::vector<uint32_t> passing_items(const Shard& shard, const uint64_t* mask);

}  // namespace hypertower::cpu
