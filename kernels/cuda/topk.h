// CUDA implementation of kernels/topk.h; arguments have passed topk_check::shapes.
#pragma once

#include "kernels/topk.h"

namespace hypertower::cuda {

void topk(const TopKInput& in, const TopKOutput& out, void* stream);
void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, void* stream);

}  // namespace hypertower::cuda
