// What the device implementations of kernels/softmax_loss.h share. Arguments have passed the shape
// checks of kernels/softmax_loss.cpp; values (targets, offsets) have not.
#pragma once

#include "kernels/softmax_loss.h"

namespace hypertower {

[[noreturn]] void throw_bad_target(int64_t row, int64_t target, int64_t columns);
// offsets[at] of row_exclude is below its predecessor, or the first is not 0.
[[noreturn]] void throw_bad_exclude(int64_t at, int64_t value);
[[noreturn]] void throw_unsorted_exclude(int64_t row);
// `query` is the row's query in host memory.
[[noreturn]] void throw_bad_loss(int64_t row, float loss, const float* query, int64_t dim);

namespace cpu {
void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec);
void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec);
}  // namespace cpu

namespace cuda {
void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec);
void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec);
}  // namespace cuda

}  // namespace hypertower
