// The twin of matmul_int8_lt.cpp for tests/cuemu: a thread per product, so that the emulator checks
// every access. Compiled only there.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/matmul_int8.h"

namespace hypertower::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void matmul_int8_kernel(const int8_t* rows, const int8_t* items, int* out,
                                   int64_t num_rows, int64_t num_items, int64_t cols) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= num_rows * num_items) return;
  const int8_t* a = rows + at / num_items * cols;
  const int8_t* b = items + at % num_items * cols;
  int sum = 0;
  for (int64_t c = 0; c < cols; ++c) sum += a[c] * b[c];
  out[at] = sum;
}

}  // namespace

struct Int8Matmul::State {
  int64_t cols;
};

Int8Matmul::Int8Matmul(int64_t cols) : state_(std::make_unique<State>(State{cols})) {}
Int8Matmul::~Int8Matmul() = default;

void Int8Matmul::run(const int8_t* rows, int64_t num_rows, const int8_t* items, int64_t num_items,
                     int* out, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(ceil_div<int64_t>(num_rows * num_items, kThreads));
  check(launch(matmul_int8_kernel,
               {.grid = blocks, .block = kThreads, .stream = stream, .name = "matmul_int8"}, rows,
               items, out, num_rows, num_items, state_->cols),
        "int8 matrix product");
}

}  // namespace hypertower::cuda
