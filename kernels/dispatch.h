// The one place per op where the device is chosen reads
//
//   if (exec.device == DeviceType::kCpu) return cpu::op(...);
//   if constexpr (kWithCuda) return cuda::op(...);
//   throw_no_cuda("op");
//
// (a discarded branch needs no definition, so a build without CUDA links without the .cu files).
#pragma once

#include <string>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace hypertower {

inline constexpr bool kWithCuda = HYPERTOWER_WITH_CUDA != 0;

[[noreturn]] inline void throw_no_cuda(const char* op) {
  throw Error(
      ErrorKind::kArgument,
      std::string(op) +
          ": expected a build with CUDA for a CUDA call, this build has none; configure with "
          "-DHYPERTOWER_CUDA=ON or run on the CPU.");
}

}  // namespace hypertower
