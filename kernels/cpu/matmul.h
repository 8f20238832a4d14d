// The inner loop of every dense layer: many dot products of rows with rows.
#pragma once

#include "kernels/tensor.h"

namespace hypertower::cpu {

// out[r, o] = <x[r], weight[o]>: x [R, In], weight [Out, In], out [R, Out]. Each dot product sums
// 16 interleaved lanes (lane l adds j = l, l + 16, ... in float) and then the lanes, always in the
// same order: its bits depend on its two rows alone.
void matmul_transposed(MatrixView<const float> x, MatrixView<const float> weight,
                       MatrixView<float> out);

}  // namespace hypertower::cpu
