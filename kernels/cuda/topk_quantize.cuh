// From floats to int8 codes with the norms of their bound (topk_bound.cuh). Part of topk_items.cu
// and topk_prepare.cuh.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_bound.cuh"
#include "kernels/cuda/topk_canonical.cuh"

namespace hypertower::cuda {

// Reductions among kLanes neighbouring lanes; all lanes of the warp must call.
template <int kLanes>
__device__ __forceinline__ double lanes_sum(double value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullMask, value, offset);
  }
  return value;
}
template <int kLanes>
__device__ __forceinline__ float lanes_max(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, offset));
  }
  return value;
}

// The scale of a vector: its largest magnitude becomes 127. Never a denormal number, whose inverse
// would be infinite; vectors as small as that get small codes. The lane is one of kLanes.
template <int kLanes, bool kVector>
__device__ __forceinline__ float code_scale(const float* x, int64_t dim, int lane) {
  float largest = 0.0F;
  for (int64_t j = 8 * lane; j < dim; j += 8 * kLanes) {
    float v[8];
    load_columns<kVector>(x, j, dim, v);
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(v[i]));
  }
  return fmaxf(lanes_max<kLanes>(largest) / 127.0F, FLT_MIN);
}

struct CodeNorms {
  float vector, residual, codes;  // |x|, |x - s c|, |s c|, in units of s and rounded up
};

// Codes of [0, 16 * chunks), zeros behind dim; store(chunk, 16 codes) is called for each chunk by
// one of the kLanes lanes.
template <int kLanes, bool kVector, class Store>
__device__ __forceinline__ CodeNorms quantize(const float* x, int64_t dim, int chunks, int lane,
                                              float scale, const Store& store) {
  const float inverse = 1.0F / scale;
  double vector = 0.0;
  double residual = 0.0;
  double codes = 0.0;
  for (int c = lane; c < chunks; c += kLanes) {
    uint32_t packed[4] = {};
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      float v[8];
      load_columns<kVector>(x, c * kCodeChunk + 8 * part, dim, v);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int code = __float2int_rn(v[i] * inverse);
        const double exact = v[i];
        const double rest = __fma_rn(-static_cast<double>(scale), code, exact);
        vector += exact * exact;
        residual += rest * rest;
        codes += static_cast<double>(code * code);
        packed[2 * part + i / 4] |= (static_cast<uint32_t>(code) & 0xffU) << (8 * (i % 4));
      }
    }
    store(c, make_uint4(packed[0], packed[1], packed[2], packed[3]));
  }
  // No square of a float leaves the doubles, so only roundings are to be covered: far below 2^-20.
  const auto up = [](double norm) { return __double2float_ru(norm * (1.0 + 0x1p-20)); };
  return {up(sqrt(lanes_sum<kLanes>(vector)) / scale),
          up(sqrt(lanes_sum<kLanes>(residual)) / scale), up(sqrt(lanes_sum<kLanes>(codes)))};
}

}  // namespace hypertower::cuda
