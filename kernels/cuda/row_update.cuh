// The update of table rows by their gradients, one group of threads per row (rules: OptimizerStep
// in kernels/embedding.h).
#pragma once

#include "kernels/cuda/finite_rows.h"
#include "kernels/cuda/gather_reduce.cuh"

namespace hypertower::cuda {

inline constexpr int kUpdateThreads = 256;

// An OptimizerStep with what is constant over rows computed once, on the host.
struct UpdateRule {
  float lr, eps, beta1, beta2;
  float keep;         // 1 - lr * weight_decay
  float rate;         // lr, for Adam with the bias of the first moment corrected
  float v_scale;      // for Adam: corrects the bias of the second moment under its root
  uint64_t step_key;  // of stochastic rounding

  explicit UpdateRule(const OptimizerStep& step);
};

// Gradients that are still to be summed: a row per run of a plan.
struct RunGradients {
  GradientRows rows;
  PieceLists<int32_t> runs;
  const int64_t* row_of;

  __device__ __forceinline__ int64_t row(int64_t i) const { return row_of[i]; }
  template <int N>
  __device__ __forceinline__ Strip<N> get(int64_t i, int64_t column) const {
    return runs.sum<N>(rows, i, column);
  }
};

// Gradients that somebody has summed.
struct GivenGradients {
  const float* grad;
  int64_t ld;
  const int64_t* row_of;

  __device__ __forceinline__ int64_t row(int64_t i) const { return row_of[i]; }
  template <int N>
  __device__ __forceinline__ Strip<N> get(int64_t i, int64_t column) const {
    return unpack(load_nc<N>(grad + i * ld + column));
  }
};

// What the state makes of a gradient: the direction of the step. Changes the state.
template <Optimizer kKind, int N>
__device__ __forceinline__ Strip<N> direction_of(const Strip<N>& g, MatrixView<float> state0,
                                                 MatrixView<float> state1, int64_t row,
                                                 int64_t column, const UpdateRule& rule) {
  const auto at = [row, column](const MatrixView<float>& m) -> Strip<N>& {
    return *reinterpret_cast<Strip<N>*>(m.data + row * m.ld + column);
  };
  Strip<N> direction = g;
  if constexpr (kKind == Optimizer::kAdagrad) {
    Strip<N>& sums = at(state0);
    Strip<N> sum = sums;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      sum.v[j] = __fmaf_rn(g.v[j], g.v[j], sum.v[j]);
      direction.v[j] = g.v[j] / (sqrtf(sum.v[j]) + rule.eps);
    }
    sums = sum;
  }
  if constexpr (kKind == Optimizer::kAdam) {
    Strip<N>& moments = at(state0);
    Strip<N>& squares = at(state1);
    Strip<N> first = moments, second = squares;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      first.v[j] = __fmaf_rn(rule.beta1, first.v[j], (1.0F - rule.beta1) * g.v[j]);
      second.v[j] = __fmaf_rn(rule.beta2, second.v[j], (1.0F - rule.beta2) * (g.v[j] * g.v[j]));
      direction.v[j] = first.v[j] / __fmaf_rn(sqrtf(second.v[j]), rule.v_scale, rule.eps);
    }
    moments = first;
    squares = second;
  }
  return direction;
}

// table[row(i)] <- one step, for i < count, unless `bad` names a gradient. One group of `lanes`
// threads per row; traffic: the gradient's rows once (twice for row-wise Adagrad where a row is
// wider than a group), table and state read and written once. Bound by memory.
template <int N, class E, Optimizer kKind, class Gradients>
__global__ void __launch_bounds__(kUpdateThreads, 4)
    update_rows_kernel(Gradients gradients, int64_t count, Table table, MatrixView<float> state0,
                       MatrixView<float> state1, UpdateRule rule, const RowPlace* bad, int lanes) {
  if (*bad != kNoRow) return;
  const Group group(lanes);
  const bool alive = group.index < count;  // all lanes stay for the shuffles
  const int64_t row = alive ? gradients.row(group.index) : 0;
  const int64_t dim = table.cols;
  const int64_t first = int64_t{group.lane} * N;
  const int64_t stride = int64_t{lanes} * N;
  float rate = rule.rate;
  Strip<N> g = {};
  E* const weights = reinterpret_cast<E*>(static_cast<char*>(table.data) + row * table.stride);
  // Asked for before the gradient, so that the row's way through memory is not behind its own.
  Packed<E, N> early = {};
  if (alive && first < dim) early = *reinterpret_cast<const Packed<E, N>*>(weights + first);
  if constexpr (kKind == Optimizer::kRowWiseAdagrad) {
    float* const state = state0.data + row * state0.ld;
    const float before = alive && group.lane == 0 ? *state : 0.0F;
    float squares = 0.0F;
    for (int64_t c = first; alive && c < dim; c += stride) {
      g = gradients.template get<N>(group.index, c);
#pragma unroll
      for (int j = 0; j < N; ++j) squares = __fmaf_rn(g.v[j], g.v[j], squares);
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      squares += __shfl_xor_sync(kFullMask, squares, offset);
    }
    float sum = 0.0F;
    if (alive && group.lane == 0) {
      sum = before + squares / static_cast<float>(dim);
      *state = sum;
    }
    sum = __shfl_sync(kFullMask, sum, 0, lanes);
    rate = rule.lr / (sqrtf(sum) + rule.eps);
  }
  if (!alive) return;
  const uint32_t key = sizeof(E) == 2 ? rounding::row_key(rule.step_key, row) : 0;
  for (int64_t c = first; c < dim; c += stride) {
    // A group as wide as the row has the gradient in registers already.
    if (kKind != Optimizer::kRowWiseAdagrad || stride < dim) {
      g = gradients.template get<N>(group.index, c);
    }
    const Strip<N> direction = direction_of<kKind>(g, state0, state1, row, c, rule);
    auto& packed = *reinterpret_cast<Packed<E, N>*>(weights + c);
    Packed<E, N> w = c == first ? early : packed;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float next = __fmaf_rn(-rate, direction.v[j], to_float(w.v[j]) * rule.keep);
      const auto column = static_cast<uint32_t>(c + j);
      round_to(w.v[j], next, sizeof(E) == 2 ? rounding::random_bits(key, column) : 0);
    }
    packed = w;
  }
}

template <class Body>
void with_optimizer(Optimizer kind, const Body& body) {
  switch (kind) {
    case Optimizer::kSgd:
      return body.template operator()<Optimizer::kSgd>();
    case Optimizer::kRowWiseAdagrad:
      return body.template operator()<Optimizer::kRowWiseAdagrad>();
    case Optimizer::kAdagrad:
      return body.template operator()<Optimizer::kAdagrad>();
    case Optimizer::kAdam:
      return body.template operator()<Optimizer::kAdam>();
  }
}

// Whether a thread can take 4 columns at once of the table and the state it needs.
inline bool rows_are_aligned(const Table& table, MatrixView<float> state0, MatrixView<float> state1,
                             Optimizer kind) {
  const int64_t dim = table.cols;
  return dim % 4 == 0 && is_aligned(table.data, table.stride, row_bytes(table.format, 4)) &&
         (state0_cols(kind, dim) != dim || is_aligned(state0)) &&
         (state1_cols(kind, dim) != dim || is_aligned(state1));
}

// Enqueues the update of `count` rows, N columns per thread.
template <int N, class Gradients>
void update_rows(const Gradients& gradients, int64_t count, const Table& table,
                 MatrixView<float> state0, MatrixView<float> state1, const OptimizerStep& step,
                 const RowPlace* bad, cudaStream_t stream) {
  if (count == 0) return;
  const int lanes = lanes_for(table.cols, N);
  with_trained_element(table.format, [&](auto element) {
    with_optimizer(step.kind, [&]<Optimizer kKind>() {
      check(launch(update_rows_kernel<N, decltype(element), kKind, Gradients>,
                   {.grid = grid_for(count, lanes),
                    .block = kUpdateThreads,
                    .stream = stream,
                    .name = "update_rows"},
                   gradients, count, table, state0, state1, UpdateRule(step), bad, lanes),
            "update_rows");
    });
  });
}

}  // namespace hypertower::cuda
