#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>

namespace hypertower::cuda {

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // the probe's error must not be found by a later, unrelated check
  return 0;
}

}  // namespace hypertower::cuda
