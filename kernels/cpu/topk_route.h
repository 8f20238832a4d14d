// Which rows of a request are searched in which way.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/cpu/topk_scan.h"
#include "kernels/topk.h"

namespace hypertower::cpu {

// Rows that are searched together. Exact ones list their items when they share a mask.
struct RowSet {
  enum class How : uint8_t { kScan, kPack, kPick, kGather, kExact };
  How how = How::kScan;
  std::vector<ScanRow> rows;
};

// Splits `rows`, whose masks are set, by what is cheapest for `items` items of `dim` columns.
std::vector<RowSet> route(std::vector<ScanRow> rows, int64_t items, int64_t dim, int64_t keep,
                          const SearchOptions& options, int threads);

// Calls each(item) for the rows [begin, end) of the shard that pass a mask and are live, ascending.
template <class Each>
void for_each_passing(const Shard& shard, const uint64_t* mask, int64_t begin, int64_t end,
                      const Each& each) {
  const int64_t first = shard.first_id + begin, last = shard.first_id + end;
  for (int64_t w = first / 64; w * 64 < last; ++w) {
    uint64_t bits = shard.live == nullptr ? mask[w] : mask[w] & shard.live[w];
    if (w * 64 < first) bits &= ~uint64_t{0} << (first - w * 64);
    if (w * 64 + 64 > last) bits &= ~uint64_t{0} >> (w * 64 + 64 - last);
    for (; bits != 0; bits &= bits - 1) each(w * 64 + std::countr_zero(bits) - shard.first_id);
  }
}

// Rows of the shard that pass a mask and are live.
std::vector<uint32_t> passing_items(const Shard& shard, const uint64_t* mask);
int64_t count_passing(const Shard& shard, const uint64_t* mask);

}  // namespace hypertower::cpu
