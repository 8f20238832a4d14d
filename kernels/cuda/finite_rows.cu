// One pass over the numbers, bound by memory.
#include "kernels/cuda/finite_rows.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"

namespace hypertower::cuda {
namespace {

constexpr int kThreads = 256;

// Warp per row.
__global__ void __launch_bounds__(kThreads)
    finite_rows_kernel(MatrixView<const float> m, RowPlace matrix, RowPlace* first) {
  const int64_t row =
      (static_cast<int64_t>(blockIdx.x) * kThreads + static_cast<int64_t>(threadIdx.x)) / 32;
  if (row >= m.rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  bool finite = true;
  for (int64_t j = lane; j < m.cols; j += 32) finite = finite && isfinite(m.data[row * m.ld + j]);
  if (!__all_sync(kFullMask, finite) && lane == 0) {
    atomicMin(first, matrix << 32 | static_cast<RowPlace>(row));
  }
}

}  // namespace

void find_non_finite_row(MatrixView<const float> m, int64_t matrix, RowPlace* first, void* stream) {
  if (m.rows == 0) return;
  check(launch(finite_rows_kernel,
               {.grid = static_cast<unsigned>(ceil_div<int64_t>(m.rows, kThreads / 32)),
                .block = kThreads,
                .stream = static_cast<cudaStream_t>(stream),
                .name = "finite_rows"},
               m, static_cast<RowPlace>(matrix), first),
        "finite rows");
}

int64_t first_non_finite_row(MatrixView<const float> m, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const Scratch<RowPlace> first(1, stream);
  check(cudaMemsetAsync(first.data(), 0xFF, sizeof(RowPlace), stream), "finite rows");
  find_non_finite_row(m, 0, first.data(), stream);
  return static_cast<int64_t>(to_host(first.data(), 1, stream)[0]);
}

}  // namespace hypertower::cuda
