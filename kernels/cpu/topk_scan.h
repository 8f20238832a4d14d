// The first pass over a shard, and the proof that nothing was missed.
//
// A row's *gate* is a score below which nothing is kept. An item is dropped only when its upper
// bound is below the gate, so the answer is complete as long as the K-th best score is not.
//   - A gate is *proven* when K items are known to reach it.
//   - A *guess* is the r-th best score of a sample of a share f of the tiles. Among K best items
//     about K f fall into the sample, so with r = K f + 4 sqrt(K f) + 5 it is too high once in
//     some 10^5 rows. It saves most of the candidates.
// After the scan the K-th best exact score is compared with the guess; where it is lower, the row
// is scanned again with proven gates alone.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/topk_candidates.h"
#include "kernels/cpu/topk_lists.h"
#include "kernels/cpu/topk_shard.h"

namespace hypertower::cpu {

// A row that takes part.
struct ScanRow {
  int64_t row = 0;               // of the request
  const float* query = nullptr;  // finite, within kMaxMagnitude
  const uint64_t* mask = nullptr;
  AdjustedRow adjusted;
  // What is known so far, grown by each scan: keys of the best, unordered, and a score that `keep`
  // items are known to reach.
  std::vector<uint64_t> keys = {};
  float lower = -std::numeric_limits<float>::infinity();
};

// Which items the first pass looks at.
enum class ScanWay : uint8_t {
  kAll,
  kPacked,  // all rows have the same mask: items that pass it are put together to full tiles
  kPicked,  // each row has a mask: those that pass it, one by one. REQUIRES: int8 tiles
};

// Adds to each row's keys those of the shard's items that may be among its `keep` best: all of
// them, and few others.
void scan_shard(const Shard& shard, std::span<ScanRow> rows, int64_t keep, ScanWay way,
                const SearchOptions& options, int threads, SearchStats* stats);

}  // namespace hypertower::cpu
