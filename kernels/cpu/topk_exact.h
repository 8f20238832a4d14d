// Canonical scores of all items, or of listed ones: for few rows, few items, and vectors whose
// magnitude no error bound covers. Reads items once for four rows.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cpu/topk_scan.h"

namespace hypertower::cpu {

// Adds to each row's keys its `keep` best of the shard's items. `items`: rows of the shard, each
// once; null: all of them.
void scan_exactly(const Shard& shard, const std::vector<uint32_t>* items, std::span<ScanRow> rows,
                  int64_t keep, int threads);

}  // namespace hypertower::cpu
