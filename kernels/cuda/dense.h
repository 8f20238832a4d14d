// CUDA implementation of kernels/dense.h; shapes have been checked. Enqueues on `stream` (a
// cudaStream_t) and returns.
#pragma once

#include "kernels/dense.h"

namespace hypertower::cuda {

void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, void* stream);
void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, void* stream);
void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, void* stream);
void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, void* stream);
void piecewise_linear(const float* x, const float* edges, int64_t num_edges, MatrixView<float> out,
                      void* stream);

}  // namespace hypertower::cuda
