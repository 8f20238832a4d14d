// CUDA implementation of kernels/topk.h; arguments have passed topk_check::shapes.
#pragma once

#include "kernels/topk.h"

namespace hypertower::cuda {

// Candidates that a call may hold for all rows together, 8 bytes each: enough for large chunks of
// items, small against the vectors.
inline constexpr int64_t kTopKScratchKeys = int64_t{1} << 24;

// A smaller `scratch_keys` means smaller chunks and never another result; a chunk is at least 256
// items or 2 k.
void topk(const TopKInput& in, const TopKOutput& out, void* stream,
          int64_t scratch_keys = kTopKScratchKeys);

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, void* stream);

}  // namespace hypertower::cuda
