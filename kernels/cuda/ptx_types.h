// What the wrappers of kernels/cuda/ptx.cuh and their twins in tests/cuemu share.
#pragma once

// Whether this compilation can say wgmma: code for sm_90a, and the emulator.
#if defined(HYPERTOWER_CUEMU) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HYPERTOWER_HAS_WGMMA 1
#endif

namespace hypertower::ptx {

// Int8 rows in shared memory, 16 columns at a time: the bytes of row r and columns [16 c, 16 c +
// 16) lie at data + c * stride + 16 r. 128-byte aligned.
struct SharedColumns {
  const void* data;
  unsigned stride;
};

}  // namespace hypertower::ptx
