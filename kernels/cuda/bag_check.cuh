// Checks of ids and offsets on the device. A check is enqueued before the kernels that rely on it;
// they read its verdict on the device and touch nothing that is broken, so the host need not wait
// in between.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/embedding_backend.h"

namespace hypertower::cuda {

inline constexpr unsigned long long kNoneBad = ~0ULL;
inline constexpr int kCheckThreads = 256;

struct BagErrors {
  unsigned long long first_position;  // of a bad id, or kNoneBad
  unsigned long long first_offset;    // that is broken, or kNoneBad
  unsigned long long dropped;         // bad ids
  unsigned long long long_bags;       // 1: there are bags of more than kPieceIds ids
};

// Group i / lanes of a launch works on one bag, run or id; `lane` is the thread's place in it.
struct Group {
  int64_t index;
  int lane;

  __device__ explicit Group(int lanes)
      : index((int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / lanes),
        lane(static_cast<int>(threadIdx.x) % lanes) {}
};

__device__ __forceinline__ bool is_row(int64_t id, int64_t table_rows) {
  return static_cast<uint64_t>(id) < static_cast<uint64_t>(table_rows);
}

// The bag that holds a position. REQUIRES: sound offsets, position < offsets[bags].
template <class Start>
__device__ __forceinline__ int64_t bag_of(const Start* offsets, int64_t bags, int64_t position) {
  int64_t low = 0, high = bags;  // offsets[low] <= position < offsets[high]
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (offsets[middle] <= position ? low : high) = middle;
  }
  return low;
}

// One thread per id and per offset.
__global__ void __launch_bounds__(kCheckThreads)
    check_bags_kernel(int64_t table_rows, const int64_t* ids, int64_t n, const int64_t* offsets,
                      int64_t bags, BagErrors* errors);

// Launches the check of one lookup; afterwards `finish` reports.
class BagCheck {
 public:
  BagCheck(int64_t table_rows, const Bags& bags, void* stream);

  const BagErrors* device() const { return errors_.data(); }

  // Synchronises the stream, then throws as kernels/embedding.h says or returns the report.
  IdReport finish(BadIds policy) const;

 private:
  int64_t table_rows_;
  const Bags& bags_;
  cudaStream_t stream_;
  Scratch<BagErrors> errors_;
};

// Blocks of `kCheckThreads` threads that give each of `count` items `lanes` threads.
inline dim3 grid_for(int64_t count, int lanes) {
  return {static_cast<unsigned>(ceil_div<int64_t>(count * lanes, kCheckThreads)), 1, 1};
}

}  // namespace hypertower::cuda
