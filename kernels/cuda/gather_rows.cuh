// Where the rows of a gather come from: a table, the output gradient, sums of pieces. Each source
// has row(e), the row that entry e names or null, and scale(e, row), its factor.
#pragma once

#include <type_traits>

#include "kernels/cuda/bag_check.cuh"
#include "kernels/cuda/row_format.cuh"

namespace hypertower::cuda {

// Rows of a table, named by the ids of a lookup; a bad id names none.
template <class E>
struct TableRows {
  using Element = E;
  static constexpr bool kBiased = sizeof(E) == 1;

  const char* table;
  int64_t stride;  // bytes
  int64_t table_rows;
  int64_t scale_at;  // of int8 rows, bytes
  const int64_t* ids;
  const float* weights;  // null: 1

  TableRows() = default;
  TableRows(const ConstTable& t, const int64_t* row_ids, const float* row_weights)
      : table(static_cast<const char*>(t.data)),
        stride(t.stride),
        table_rows(t.rows),
        scale_at(int8_scale_offset(t.cols)),
        ids(row_ids),
        weights(row_weights) {}

  __device__ __forceinline__ const E* row(int64_t e) const {
    const int64_t id = __ldg(ids + e);
    return is_row(id, table_rows) ? reinterpret_cast<const E*>(table + id * stride) : nullptr;
  }
  __device__ __forceinline__ float weight(int64_t e) const {
    return weights != nullptr ? __ldg(weights + e) : 1.0F;
  }
  // Of int8 rows.
  __device__ __forceinline__ const float* scale_and_bias(const E* row) const {
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(row) + scale_at);
  }
  __device__ __forceinline__ float scale(int64_t e, const E* row) const {
    if constexpr (kBiased) return weight(e) * __ldg(scale_and_bias(row));
    return weight(e);
  }
  __device__ __forceinline__ float bias(int64_t e, const E* row) const {
    return weight(e) * __ldg(scale_and_bias(row) + 1);
  }
};

// Rows of the output gradient, named by the entries of a plan.
struct GradientRows {
  using Element = float;
  static constexpr bool kBiased = false;

  const float* grad;
  int64_t ld;
  const uint64_t* entry;
  const float* weights;    // null: 1
  const int64_t* offsets;  // null: no division by the length of the bag

  __device__ __forceinline__ int64_t bag(int64_t e) const {
    return static_cast<uint32_t>(__ldg(entry + e));
  }
  __device__ __forceinline__ const float* row(int64_t e) const { return grad + bag(e) * ld; }
  __device__ __forceinline__ float scale(int64_t e, const float*) const {
    const float weight = weights != nullptr ? __ldg(weights + (__ldg(entry + e) >> 32)) : 1.0F;
    if (offsets == nullptr) return weight;
    const int64_t b = bag(e);
    return __fdividef(weight, static_cast<float>(__ldg(offsets + b + 1) - __ldg(offsets + b)));
  }
};

// Sums of pieces, one after the other. The kernel that joins them writes among them.
struct PieceRows {
  using Element = float;
  static constexpr bool kBiased = false;

  const float* sums;
  int64_t dim;

  __device__ __forceinline__ const float* row(int64_t e) const { return sums + e * dim; }
  __device__ __forceinline__ float scale(int64_t, const float*) const { return 1.0F; }
};

template <int N, class Rows, class E>
__device__ __forceinline__ Packed<E, N> load_row(const Rows&, const E* p) {
  if constexpr (std::is_same_v<Rows, PieceRows>) return *reinterpret_cast<const Packed<E, N>*>(p);
  return load_nc<N>(p);
}

}  // namespace hypertower::cuda
