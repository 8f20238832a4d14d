// Which rows of a matrix may be computed with.
#pragma once

#include "kernels/tensor.h"

namespace hypertower {

// First row that holds a NaN or infinity, or -1. Host memory. REQUIRES: threads >= 1.
int64_t first_non_finite_row(MatrixView<const float> m, int threads = 1);

}  // namespace hypertower
