// Checks of ids and offsets on the device. A check is enqueued before the kernels that rely on it;
// they read its verdict on the device and touch nothing that is broken, so the host need not wait
// in between.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/embedding_backend.h"

namespace hypertower::cuda {

inline constexpr int kCheckThreads = 256;

// Of one lookup. Zeros say that all is well, so first places are kept as their complements.
struct BagErrors {
  unsigned long long position;   // ~ of the first bad id, or 0
  unsigned long long offset;     // ~ of the first one that is broken, or 0
  unsigned long long dropped;    // bad ids
  unsigned long long long_bags;  // 1: there are bags of more than kPieceIds ids
};

// What one launch does for several lookups: block (x, y) works on the y-th.
template <class Lookup>
struct Several {
  static constexpr size_t kMost = 4000 / sizeof(Lookup);  // a launch takes 4 KiB of arguments
  Lookup of[kMost];
};

// Calls body(several, count, largest) for `lookups` in portions; `largest` is the most that
// size(lookup) is in one.
template <class Lookup, class Size, class Body>
void in_portions(std::span<const Lookup> lookups, const Size& size, const Body& body) {
  using Portion = Several<Lookup>;
  for (size_t first = 0; first < lookups.size(); first += Portion::kMost) {
    const size_t count = std::min(lookups.size() - first, Portion::kMost);
    Portion portion;
    int64_t largest = 0;
    for (size_t i = 0; i < count; ++i) {
      portion.of[i] = lookups[first + i];
      largest = std::max<int64_t>(largest, size(lookups[first + i]));
    }
    if (largest > 0) body(portion, first, static_cast<unsigned>(count), largest);
  }
}

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

// Launches the checks of lookups; afterwards `finish` reports. `lookups` must outlive it.
class BagCheck {
 public:
  BagCheck(std::span<const PlanInput> lookups, void* stream);

  const BagErrors* device(size_t lookup) const { return errors_.data() + lookup; }
  // Not 0 in `offset` or `dropped` where that is so of any lookup.
  const BagErrors* of_any() const { return errors_.data() + lookups_.size(); }

  // Synchronises the stream, then throws as kernels/embedding.h says, for the first lookup that has
  // a finding, or returns the reports.
  std::vector<IdReport> finish(BadIds policy) const;

 private:
  IdReport report(const PlanInput& lookup, const BagErrors& errors, BadIds policy) const;

  std::span<const PlanInput> lookups_;
  cudaStream_t stream_;
  Scratch<BagErrors> errors_;
};

// Blocks of `kCheckThreads` threads that give each of `count` items `lanes` threads, for each of
// several lookups.
inline dim3 grid_for(int64_t count, int lanes, unsigned lookups = 1) {
  return {static_cast<unsigned>(ceil_div<int64_t>(count * lanes, kCheckThreads)), lookups, 1};
}

}  // namespace hypertower::cuda
