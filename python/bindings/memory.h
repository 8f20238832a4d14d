// How Python hands over memory: as addresses and shapes (python/hypertower/_memory.py).
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "kernels/embedding.h"
#include "kernels/tensor.h"

namespace hypertower::bindings {

// (address, rows, cols, leading dimension); address 0 = absent. One-dimensional: (address, n, 1,
// 1).
using Memory = std::tuple<uintptr_t, int64_t, int64_t, int64_t>;
// (on CUDA, threads, stream address)
using Place = std::tuple<bool, int, uintptr_t>;

template <class T>
T* pointer(const Memory& m) {
  return reinterpret_cast<T*>(std::get<0>(m));
}

inline int64_t length(const Memory& m) {
  return std::get<1>(m);
}

template <class T>
MatrixView<T> matrix(const Memory& m) {
  return {pointer<T>(m), std::get<1>(m), std::get<2>(m), std::get<3>(m)};
}

inline Exec place(const Place& p) {
  return {std::get<0>(p) ? DeviceType::kCuda : DeviceType::kCpu, std::get<1>(p),
          reinterpret_cast<void*>(std::get<2>(p))};
}

// `name` must outlive the bags.
inline Bags bags(const Memory& ids, const Memory& offsets, const Memory& weights,
                 const char* name = "ids") {
  return {.ids = pointer<const int64_t>(ids),
          .offsets = pointer<const int64_t>(offsets),
          .weights = pointer<const float>(weights),
          .n = length(ids),
          .bags = length(offsets) - 1,
          .name = name};
}

Pool pool(const std::string& mode);

}  // namespace hypertower::bindings
