// The CPU implementation of kernels/topk.h: a first pass that bounds every score (topk_scan.h), and
// canonical scores for the few items that may belong to the answer.
#pragma once

#include <span>

#include "kernels/cpu/topk_shard.h"
#include "kernels/topk.h"

namespace hypertower::cpu {

// Over items as they are; `in` has been checked by topk_check::shapes.
void topk(const TopKInput& in, const TopKOutput& out, int threads);

// Over prepared items. `in.items` has the number of all items and columns, and no data. Shards lie
// one after the other.
void search(std::span<const Shard> shards, const TopKInput& in, const TopKOutput& out, int threads,
            const SearchOptions& options = {}, SearchStats* stats = nullptr);

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, int threads);

}  // namespace hypertower::cpu
