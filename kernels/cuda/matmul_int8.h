// The int8 matrix product of a vendor library: matmul_int8_lt.cpp calls cuBLASLt;
// matmul_int8_host.cpp is the twin for the emulator (tests/cuemu), and exactly one of the two is
// linked.
//
// Integers, so exact and the same on every device while cols * 127^2 < 2^31. Enqueues on `stream`
// and does not synchronise; may be captured into a graph. Not thread-safe; one object per thread.
// Errors: ErrorKind::kArgument when the library refuses.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace hypertower::cuda {

class Int8Matmul {
 public:
  // For products over `cols` columns, a multiple of 32.
  explicit Int8Matmul(int64_t cols);
  ~Int8Matmul();
  Int8Matmul(const Int8Matmul&) = delete;
  Int8Matmul& operator=(const Int8Matmul&) = delete;

  // out[num_rows][num_items] = rows[num_rows][cols] * items[num_items][cols]^T, all dense and
  // 16-byte aligned in device memory. REQUIRES: num_items is a multiple of 4; num_rows >= 1.
  void run(const int8_t* rows, int64_t num_rows, const int8_t* items, int64_t num_items, int* out,
           cudaStream_t stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hypertower::cuda
