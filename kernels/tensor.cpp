#include "kernels/tensor.h"

#include "kernels/cuda/device.h"
#include "kernels/dispatch.h"

namespace hypertower {

bool cuda_available() noexcept {
  if constexpr (kWithCuda) {
    static const bool available = cuda::device_count() > 0;
    return available;
  }
  return false;
}

}  // namespace hypertower
