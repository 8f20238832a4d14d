// The check of kernels/finite_rows.h on the device.
#pragma once

#include "kernels/tensor.h"

namespace hypertower::cuda {

// A row of one of several matrices: matrix << 32 | row. REQUIRES: fewer than 2^32 rows.
using RowPlace = unsigned long long;
inline constexpr RowPlace kNoRow = ~0ULL;

// Enqueues: *first becomes the least of itself and the place of the first row of `m` that holds a
// NaN or infinity. All memory is the device's.
void find_non_finite_row(MatrixView<const float> m, int64_t matrix, RowPlace* first, void* stream);

// First row that holds a NaN or infinity, or -1. Device memory; synchronises.
int64_t first_non_finite_row(MatrixView<const float> m, void* stream);

}  // namespace hypertower::cuda
