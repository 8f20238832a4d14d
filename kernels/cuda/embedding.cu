// Embedding bags on CUDA. A group of up to 32 threads sums one bag, run or id, each thread 4
// neighbouring columns (1 where the memory is not aligned to 16 bytes); nothing is shared between
// groups, so the order of every sum is the list's. Bound by memory: forward n rows of D floats,
// backward n rows of the gradient and every touched row of table and state there and back. A bag or
// run is walked by one group, so one very long run limits the whole launch.
#include <cmath>

#include "kernels/cuda/gather_reduce.cuh"
#include "kernels/cuda/row_update.cuh"

namespace hypertower::cuda {
namespace {

constexpr int kThreads = 256;

template <class V>
__global__ void __launch_bounds__(kThreads)
    embedding_bag_kernel(TableRows rows, const int64_t* offsets, bool mean, bool refuse_bad_ids,
                         const BagErrors* errors, MatrixView<float> out, int lanes) {
  if (errors->first_offset != kNoneBad || (refuse_bad_ids && errors->dropped != 0)) return;
  const Group group(lanes);
  if (group.index >= out.rows) return;
  const int64_t begin = offsets[group.index], end = offsets[group.index + 1];
  const float length = mean && end > begin ? static_cast<float>(end - begin) : 1.0F;
  for (int64_t c = int64_t{group.lane} * kWidth<V>; c < out.cols; c += lanes * kWidth<V>) {
    V sum = gather_sum<V>(rows, begin, end, c);
#pragma unroll
    for (int i = 0; i < kWidth<V>; ++i) part(sum, i) /= length;
    *reinterpret_cast<V*>(out.data + group.index * out.ld + c) = sum;
  }
}

template <class V>
__global__ void __launch_bounds__(kThreads)
    row_gradient_kernel(RunGradients gradients, MatrixView<float> out, int lanes) {
  const Group group(lanes);
  if (group.index >= out.rows) return;
  for (int64_t c = int64_t{group.lane} * kWidth<V>; c < out.cols; c += lanes * kWidth<V>) {
    *reinterpret_cast<V*>(out.data + group.index * out.ld + c) = gradients.get<V>(group.index, c);
  }
}

template <class V>
__global__ void __launch_bounds__(kThreads)
    weight_gradient_kernel(TableRows rows, const int64_t* offsets, int64_t n, bool mean,
                           const BagErrors* errors, MatrixView<const float> grad, float* out,
                           int lanes) {
  if (errors->first_offset != kNoneBad) return;
  const Group group(lanes);
  const bool alive = group.index < n;  // all lanes stay for the shuffles
  const int64_t bag = alive ? bag_of(offsets, grad.rows, group.index) : 0;
  const float* row = alive ? rows.row(group.index) : nullptr;
  float sum = 0.0F;
  for (int64_t c = int64_t{group.lane} * kWidth<V>; row != nullptr && c < grad.cols;
       c += lanes * kWidth<V>) {
    sum += dot(load(row + c, V{}), load(grad.data + bag * grad.ld + c, V{}));
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, offset);
  }
  if (!alive || group.lane != 0) return;
  out[group.index] = mean ? sum / static_cast<float>(offsets[bag + 1] - offsets[bag]) : sum;
}

LaunchConfig config(const char* name, int64_t groups, int lanes, const Exec& exec) {
  return {.grid = grid_for(groups, lanes),
          .block = kThreads,
          .stream = static_cast<cudaStream_t>(exec.stream),
          .name = name};
}

RunGradients run_gradients(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                           MatrixView<const float> grad) {
  return {
      {grad.data, grad.ld, plan.entry, bags.weights, pool == Pool::kMean ? bags.offsets : nullptr},
      plan.row,
      plan.run_start};
}

}  // namespace

UpdateRule::UpdateRule(const OptimizerStep& step)
    : lr(step.lr),
      eps(step.eps),
      beta1(step.beta1),
      beta2(step.beta2),
      keep(1.0F - step.lr * step.weight_decay),
      rate(step.lr),
      v_scale(1.0F) {
  if (step.kind != Optimizer::kAdam) return;
  rate = static_cast<float>(step.lr / (1.0 - std::pow(double{step.beta1}, step.step)));
  v_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double{step.beta2}, step.step)));
}

IdReport embedding_bag(MatrixView<const float> table, const Bags& bags, Pool pool, BadIds policy,
                       MatrixView<float> out, const Exec& exec) {
  const BagCheck bag_check(table.rows, bags, exec.stream);
  if (out.rows > 0) {
    with_vector(
        table.cols,
        [&](auto vector) {
          using V = decltype(vector);
          const int lanes = lanes_for<V>(table.cols);
          check(launch(embedding_bag_kernel<V>, config("embedding_bag", out.rows, lanes, exec),
                       TableRows{table.data, table.ld, table.rows, bags.ids, bags.weights},
                       bags.offsets, pool == Pool::kMean, policy == BadIds::kThrow,
                       bag_check.device(), out, lanes),
                "embedding_bag");
        },
        table, out);
  }
  return bag_check.finish(policy);
}

void embedding_backward(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                        MatrixView<const float> grad, const OptimizerStep& step, const Exec& exec) {
  update_rows(run_gradients(plan, bags, pool, grad), grad, plan.runs, table, state0, state1, step,
              exec.stream);
}

void apply_row_gradient(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec) {
  update_rows(GivenGradients{row_grad.data, row_grad.ld, rows}, row_grad, row_grad.rows, table,
              state0, state1, step, exec.stream);
}

void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec) {
  if (plan.runs == 0) return;
  with_vector(
      grad.cols,
      [&](auto vector) {
        using V = decltype(vector);
        const int lanes = lanes_for<V>(grad.cols);
        check(launch(row_gradient_kernel<V>, config("row_gradient", plan.runs, lanes, exec),
                     run_gradients(plan, bags, pool, grad), row_grad, lanes),
              "row_gradient");
      },
      grad, row_grad);
}

void embedding_weight_gradient(MatrixView<const float> table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec) {
  const BagCheck bag_check(table.rows, bags, exec.stream);
  if (bags.n > 0 && bags.bags > 0) {
    with_vector(
        table.cols,
        [&](auto vector) {
          using V = decltype(vector);
          const int lanes = lanes_for<V>(table.cols);
          check(launch(weight_gradient_kernel<V>, config("weight_gradient", bags.n, lanes, exec),
                       TableRows{table.data, table.ld, table.rows, bags.ids, nullptr}, bags.offsets,
                       bags.n, pool == Pool::kMean, bag_check.device(), grad, out, lanes),
                "weight_gradient");
        },
        table, grad);
  }
  bag_check.finish(BadIds::kDrop);
}

}  // namespace hypertower::cuda
