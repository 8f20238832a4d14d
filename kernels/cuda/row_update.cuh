// The update of table rows by their gradients, one group of threads per row (rules: OptimizerStep
// in kernels/embedding.h).
#pragma once

#include "kernels/cuda/gather_reduce.cuh"

namespace hypertower::cuda {

inline constexpr int kUpdateThreads = 256;

// An OptimizerStep with what is constant over rows computed once, on the host.
struct UpdateRule {
  float lr, eps, beta1, beta2;
  float keep;     // 1 - lr * weight_decay
  float rate;     // lr, for Adam with the bias of the first moment corrected
  float v_scale;  // for Adam: corrects the bias of the second moment under its root

  explicit UpdateRule(const OptimizerStep& step);
};

// Gradients that are still to be summed: a row per run of a plan.
struct RunGradients {
  GradientRows rows;
  const int64_t* row_of;
  const int32_t* start;

  __device__ __forceinline__ int64_t row(int64_t i) const { return row_of[i]; }
  template <class V>
  __device__ __forceinline__ V get(int64_t i, int64_t column) const {
    return gather_sum<V>(rows, start[i], start[i + 1], column);
  }
};

// Gradients that somebody has summed.
struct GivenGradients {
  const float* grad;
  int64_t ld;
  const int64_t* row_of;

  __device__ __forceinline__ int64_t row(int64_t i) const { return row_of[i]; }
  template <class V>
  __device__ __forceinline__ V get(int64_t i, int64_t column) const {
    return load(grad + i * ld + column, V{});
  }
};

// Lane-wise helpers over the floats of V.
template <class V>
__device__ __forceinline__ float& part(V& v, int i) {
  return reinterpret_cast<float*>(&v)[i];
}
template <class V>
__device__ __forceinline__ const float& part(const V& v, int i) {
  return reinterpret_cast<const float*>(&v)[i];
}

template <class V>
__device__ __forceinline__ void descend(float* weight, const V& step, float keep, float rate) {
  V& w = *reinterpret_cast<V*>(weight);
  V next = w;
#pragma unroll
  for (int i = 0; i < kWidth<V>; ++i) {
    part(next, i) = __fmaf_rn(-rate, part(step, i), part(next, i) * keep);
  }
  w = next;
}

// Updates m and v; returns m / (sqrt(v) * v_scale + eps).
template <class V>
__device__ __forceinline__ V adam_direction(float* m, float* v, const V& g,
                                            const UpdateRule& rule) {
  V first = *reinterpret_cast<V*>(m), second = *reinterpret_cast<V*>(v), direction;
#pragma unroll
  for (int i = 0; i < kWidth<V>; ++i) {
    const float gi = part(g, i);
    part(first, i) = __fmaf_rn(rule.beta1, part(first, i), (1.0F - rule.beta1) * gi);
    part(second, i) = __fmaf_rn(rule.beta2, part(second, i), (1.0F - rule.beta2) * (gi * gi));
    part(direction, i) = part(first, i) / __fmaf_rn(sqrtf(part(second, i)), rule.v_scale, rule.eps);
  }
  *reinterpret_cast<V*>(m) = first;
  *reinterpret_cast<V*>(v) = second;
  return direction;
}

// table[row(i)] <- one step, for i < count. One group of `lanes` threads per row; traffic: the
// gradient's rows once (twice for row-wise Adagrad where a row is wider than a group), table and
// state read and written once. Bound by memory.
template <class V, Optimizer kKind, class Gradients>
__global__ void __launch_bounds__(kUpdateThreads, 4)
    update_rows_kernel(Gradients gradients, int64_t count, MatrixView<float> table,
                       MatrixView<float> state0, MatrixView<float> state1, UpdateRule rule,
                       int lanes) {
  const Group group(lanes);
  const bool alive = group.index < count;  // all lanes stay for the shuffles
  const int64_t row = alive ? gradients.row(group.index) : 0;
  const int64_t dim = table.cols;
  const int64_t first = int64_t{group.lane} * kWidth<V>;
  const int64_t stride = int64_t{lanes} * kWidth<V>;
  float rate = rule.rate;
  V g = {};
  if constexpr (kKind == Optimizer::kRowWiseAdagrad) {
    float squares = 0.0F;
    for (int64_t c = first; alive && c < dim; c += stride) {
      g = gradients.template get<V>(group.index, c);
      squares += dot(g, g);
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      squares += __shfl_xor_sync(kFullMask, squares, offset);
    }
    float sum = 0.0F;
    if (alive && group.lane == 0) {
      float* state = state0.data + row * state0.ld;
      sum = *state + squares / static_cast<float>(dim);
      *state = sum;
    }
    sum = __shfl_sync(kFullMask, sum, 0, lanes);
    rate = rule.lr / (sqrtf(sum) + rule.eps);
  }
  if (!alive) return;
  for (int64_t c = first; c < dim; c += stride) {
    // A group as wide as the row has the gradient in registers already.
    if (kKind != Optimizer::kRowWiseAdagrad || stride < dim) {
      g = gradients.template get<V>(group.index, c);
    }
    V step = g;
    if constexpr (kKind == Optimizer::kAdam) {
      step = adam_direction(state0.data + row * state0.ld + c, state1.data + row * state1.ld + c, g,
                            rule);
    }
    descend(table.data + row * table.ld + c, step, rule.keep, rate);
  }
}

// Enqueues the update of `count` rows.
template <class Gradients>
void update_rows(const Gradients& gradients, MatrixView<const float> source, int64_t count,
                 MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                 const OptimizerStep& step, void* stream) {
  if (count == 0) return;
  const auto run = [&]<Optimizer kKind>(auto vector) {
    using V = decltype(vector);
    const int lanes = lanes_for<V>(table.cols);
    check(launch(update_rows_kernel<V, kKind, Gradients>,
                 {.grid = grid_for(count, lanes),
                  .block = kUpdateThreads,
                  .stream = static_cast<cudaStream_t>(stream),
                  .name = "update_rows"},
                 gradients, count, table, state0, state1, UpdateRule(step), lanes),
          "update_rows");
  };
  switch (step.kind) {
    case Optimizer::kSgd:
      return with_vector(
          table.cols, [&](auto v) { run.template operator()<Optimizer::kSgd>(v); }, source, table);
    case Optimizer::kRowWiseAdagrad:
      return with_vector(
          table.cols, [&](auto v) { run.template operator()<Optimizer::kRowWiseAdagrad>(v); },
          source, table);
    case Optimizer::kAdam:
      return with_vector(
          table.cols, [&](auto v) { run.template operator()<Optimizer::kAdam>(v); }, source, table,
          state0, state1);
  }
}

}  // namespace hypertower::cuda
