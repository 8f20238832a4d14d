// Argument checks that both implementations of sort.h share.
#pragma once

#include "kernels/error.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace hypertower::cuda {

inline void check_count(const char* call, int64_t n) {
  if (n < 0) {
    throw Error(ErrorKind::kArgument,
                std::string(call) + ": expected n >= 0, got " + std::to_string(n) + ".");
  }
}

template <class Key>
void check_sort(const char* call, int64_t n, int begin_bit, int end_bit) {
  check_count(call, n);
  constexpr int kBits = 8 * static_cast<int>(sizeof(Key));
  if (begin_bit < 0 || begin_bit >= end_bit || end_bit > kBits) {
    throw Error(ErrorKind::kArgument,
                std::string(call) +
                    ": expected 0 <= begin_bit < end_bit <= " + std::to_string(kBits) + ", got [" +
                    std::to_string(begin_bit) + ", " + std::to_string(end_bit) + ").");
  }
}

inline void check_workspace(const char* call, const void* workspace, size_t bytes, size_t needed) {
  if (bytes < needed || (workspace == nullptr && needed != 0)) {
    throw Error(ErrorKind::kArgument, std::string(call) + ": expected a workspace of at least " +
                                          std::to_string(needed) + " bytes, got " +
                                          (workspace == nullptr ? "none" : std::to_string(bytes)) +
                                          "; ask " + call + "_workspace_bytes first.");
  }
}

}  // namespace hypertower::cuda
