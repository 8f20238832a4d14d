// One loop for both directions of an embedding bag: the sum of some rows of a matrix, each times a
// scale, in the order of their list. V is float, or float4 where 16-byte loads are possible.
#pragma once

#include "kernels/cuda/bag_check.cuh"
#include "kernels/cuda/launch.cuh"

namespace hypertower::cuda {

template <class V>
inline constexpr int kWidth = sizeof(V) / sizeof(float);

__device__ __forceinline__ float load(const float* p, float) {
  return __ldg(p);
}
__device__ __forceinline__ float4 load(const float* p, float4) {
  return ptx::ld_nc(reinterpret_cast<const float4*>(p));
}

__device__ __forceinline__ float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
__device__ __forceinline__ float4 multiply_add(float a, float4 b, float4 c) {
  return make_float4(__fmaf_rn(a, b.x, c.x), __fmaf_rn(a, b.y, c.y), __fmaf_rn(a, b.z, c.z),
                     __fmaf_rn(a, b.w, c.w));
}

__device__ __forceinline__ float dot(float a, float b) {
  return a * b;
}
__device__ __forceinline__ float dot(float4 a, float4 b) {
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

// Rows of a table, named by the ids of a lookup; a bad id names none.
struct TableRows {
  const float* table;
  int64_t ld;
  int64_t table_rows;
  const int64_t* ids;
  const float* weights;  // null: 1

  __device__ __forceinline__ const float* row(int64_t e) const {
    const int64_t id = __ldg(ids + e);
    return is_row(id, table_rows) ? table + id * ld : nullptr;
  }
  __device__ __forceinline__ float scale(int64_t e) const {
    return weights != nullptr ? __ldg(weights + e) : 1.0F;
  }
};

// Rows of the output gradient, named by the entries of a plan.
struct GradientRows {
  const float* grad;
  int64_t ld;
  const uint64_t* entry;
  const float* weights;    // null: 1
  const int64_t* offsets;  // null: no division by the length of the bag

  __device__ __forceinline__ int64_t bag(int64_t e) const {
    return static_cast<uint32_t>(__ldg(entry + e));
  }
  __device__ __forceinline__ const float* row(int64_t e) const { return grad + bag(e) * ld; }
  __device__ __forceinline__ float scale(int64_t e) const {
    const float weight = weights != nullptr ? __ldg(weights + (__ldg(entry + e) >> 32)) : 1.0F;
    if (offsets == nullptr) return weight;
    const int64_t b = bag(e);
    return __fdividef(weight, static_cast<float>(__ldg(offsets + b + 1) - __ldg(offsets + b)));
  }
};

// Columns [column, column + kWidth<V>) of the sum over e in [begin, end).
template <class V, class Rows>
__device__ __forceinline__ V gather_sum(const Rows& rows, int64_t begin, int64_t end,
                                        int64_t column) {
  constexpr int kInFlight = 4;  // independent loads before the first is used
  V sum = {};
  int64_t e = begin;
  for (; e + kInFlight <= end; e += kInFlight) {
    V value[kInFlight];
    float scale[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const float* row = rows.row(e + i);
      scale[i] = row != nullptr ? rows.scale(e + i) : 0.0F;
      value[i] = row != nullptr ? load(row + column, V{}) : V{};
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) sum = multiply_add(scale[i], value[i], sum);
  }
  for (; e < end; ++e) {
    const float* row = rows.row(e);
    if (row != nullptr) sum = multiply_add(rows.scale(e), load(row + column, V{}), sum);
  }
  return sum;
}

// Threads that share one sum: a power of two up to a warp.
template <class V>
int lanes_for(int64_t dim) {
  int lanes = 1;
  while (lanes < 32 && lanes * kWidth<V> < dim) lanes *= 2;
  return lanes;
}

// Calls body(float4{}) if every matrix can be read 16 bytes at a time, else body(float{}).
template <class Body, class... T>
void with_vector(int64_t dim, const Body& body, const MatrixView<T>&... matrices) {
  const auto aligned = [](const auto& m) {
    return reinterpret_cast<uintptr_t>(m.data) % sizeof(float4) == 0 && m.ld % 4 == 0;
  };
  if (dim % 4 == 0 && (aligned(matrices) && ...)) return body(float4{});
  return body(float{});
}

}  // namespace hypertower::cuda
