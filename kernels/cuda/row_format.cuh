// Numbers of table rows on the device: N neighbouring columns at once, packed as they lie in memory
// or as floats.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/embedding_table.h"
#include "kernels/stochastic_rounding.h"

namespace hypertower::cuda {

template <int N>
struct alignas(N % 4 == 0 ? 16 : 4) Strip {
  float v[N];
};

template <class E, int N>
struct alignas(N * sizeof(E) < 16 ? N * sizeof(E) : 16) Packed {
  E v[N];
};

// Columns that one thread loads at once: 16 bytes of them, or one where memory is not aligned.
template <class E>
inline constexpr int kVector = 16 / sizeof(E);

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(Bfloat16 x) {
  return __uint_as_float(uint32_t{x.bits} << 16);
}
__device__ __forceinline__ float to_float(Float16 x) {
  return __half2float(__ushort_as_half(x.bits));
}
__device__ __forceinline__ float to_float(uint8_t code) {
  return static_cast<float>(code);
}

template <class E, int N>
__device__ __forceinline__ Strip<N> unpack(const Packed<E, N>& packed) {
  Strip<N> strip;
#pragma unroll
  for (int j = 0; j < N; ++j) strip.v[j] = to_float(packed.v[j]);
  return strip;
}

// Memory that nobody writes while the kernel runs.
template <int N, class E>
__device__ __forceinline__ Packed<E, N> load_nc(const E* p) {
  constexpr int kBytes = N * sizeof(E);
  if constexpr (kBytes % 16 == 0) {
    Packed<E, N> packed;
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i) {
      reinterpret_cast<uint4*>(&packed)[i] = ptx::ld_nc(reinterpret_cast<const uint4*>(p) + i);
    }
    return packed;
  } else if constexpr (kBytes == 8) {
    const uint2 v = __ldg(reinterpret_cast<const uint2*>(p));
    return *reinterpret_cast<const Packed<E, N>*>(&v);
  } else {
    static_assert(N == 1);
    return *reinterpret_cast<const Packed<E, N>*>(p);
  }
}

__device__ __forceinline__ void store(float* p, const Strip<1>& strip) {
  *p = strip.v[0];
}
template <int N>
__device__ __forceinline__ void store(float* p, const Strip<N>& strip) {
#pragma unroll
  for (int j = 0; j < N; j += 4) {
    *reinterpret_cast<float4*>(p + j) =
        make_float4(strip.v[j], strip.v[j + 1], strip.v[j + 2], strip.v[j + 3]);
  }
}

template <int N>
__device__ __forceinline__ void add_scaled(Strip<N>& sum, float scale, const Strip<N>& x) {
#pragma unroll
  for (int j = 0; j < N; ++j) sum.v[j] = __fmaf_rn(scale, x.v[j], sum.v[j]);
}

// Stochastic rounding where E has 16 bits.
__device__ __forceinline__ void round_to(float& to, float x, uint32_t) {
  to = x;
}
__device__ __forceinline__ void round_to(Bfloat16& to, float x, uint32_t random) {
  to.bits = rounding::to_bfloat16(x, random);
}
__device__ __forceinline__ void round_to(Float16& to, float x, uint32_t random) {
  to.bits = rounding::to_float16(x, random);
}

// Calls body(E()) with the type of the numbers in rows of a format that is not int8.
template <class Body>
void with_trained_element(RowFormat format, const Body& body) {
  if (format == RowFormat::kFloat32) return body(float());
  if (format == RowFormat::kBfloat16) return body(Bfloat16());
  return body(Float16());
}

// The same for every format.
template <class Body>
void with_element(RowFormat format, const Body& body) {
  if (format == RowFormat::kInt8) return body(uint8_t());
  with_trained_element(format, body);
}

inline bool is_aligned(const void* data, int64_t stride_bytes, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0 && stride_bytes % bytes == 0;
}
template <class T>
bool is_aligned(const MatrixView<T>& m) {
  return is_aligned(m.data, m.ld * int64_t{sizeof(T)}, 16);
}

}  // namespace hypertower::cuda
