// Embedding bags on CUDA. A group of up to 32 threads sums one bag, run or piece of a long one,
// each thread as many columns as 16 bytes hold (one where the memory is not aligned to that);
// nothing is shared between groups, so the order of every sum is the list's and no sum needs an
// atomic. Bound by memory: forward n rows of D numbers, backward n rows of the gradient and every
// touched row of table and state there and back.
#include <cmath>
#include <compare>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "kernels/cuda/row_update.cuh"

namespace hypertower::cuda {
namespace {

constexpr int kThreads = kCheckThreads;

// One of the lookups of a launch.
template <class E>
struct BagJob {
  PieceJob<TableRows<E>, int64_t> in;
  MatrixView<float> out;
  bool mean;
};

template <int N, class E>
__global__ void __launch_bounds__(kThreads, kGatherBlocks<N>)
    embedding_bag_kernel(const Several<BagJob<E>> jobs, bool refuse_bad_ids,
                         const BagErrors* of_any, int lanes) {
  if (of_any->offset != 0 || (refuse_bad_ids && of_any->dropped != 0)) return;
  const BagJob<E>& job = jobs.of[blockIdx.y];
  const Group group(lanes);
  const MatrixView<float> out = job.out;
  if (group.index >= out.rows) return;
  const TableRows<E> rows = job.in.rows;
  const PieceLists<int64_t> bags = job.in.lists;
  const int64_t length = bags.end(group.index) - bags.begin(group.index);
  const float divisor = job.mean && length > 0 ? static_cast<float>(length) : 1.0F;
  for (int64_t c = int64_t{group.lane} * N; c < out.cols; c += int64_t{lanes} * N) {
    Strip<N> sum = bags.sum<N>(rows, group.index, c);
#pragma unroll
    for (int j = 0; j < N; ++j) sum.v[j] /= divisor;
    store(out.data + group.index * out.ld + c, sum);
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads)
    row_gradient_kernel(RunGradients gradients, MatrixView<float> out, int lanes) {
  const Group group(lanes);
  if (group.index >= out.rows) return;
  for (int64_t c = int64_t{group.lane} * N; c < out.cols; c += int64_t{lanes} * N) {
    store(out.data + group.index * out.ld + c, gradients.get<N>(group.index, c));
  }
}

template <int N, class E>
__global__ void __launch_bounds__(kThreads)
    weight_gradient_kernel(TableRows<E> rows, const int64_t* offsets, int64_t n, bool mean,
                           const BagErrors* errors, MatrixView<const float> grad, float* out,
                           int lanes) {
  if (errors->offset != 0) return;
  const Group group(lanes);
  const bool alive = group.index < n;  // all lanes stay for the shuffles
  const int64_t bag = alive ? bag_of(offsets, grad.rows, group.index) : 0;
  const E* row = alive ? rows.row(group.index) : nullptr;
  float scale = 1.0F, bias = 0.0F;
  if constexpr (TableRows<E>::kBiased) {
    if (row != nullptr) {
      scale = rows.scale_and_bias(row)[0];
      bias = rows.scale_and_bias(row)[1];
    }
  }
  float sum = 0.0F;
  for (int64_t c = int64_t{group.lane} * N; row != nullptr && c < grad.cols;
       c += int64_t{lanes} * N) {
    const Strip<N> w = unpack(load_nc<N>(row + c));
    const float* g = grad.data + bag * grad.ld + c;
#pragma unroll
    for (int j = 0; j < N; ++j) sum = __fmaf_rn(__ldg(g + j), __fmaf_rn(w.v[j], scale, bias), sum);
  }
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, offset);
  }
  if (!alive || group.lane != 0) return;
  out[group.index] = mean ? sum / static_cast<float>(offsets[bag + 1] - offsets[bag]) : sum;
}

LaunchConfig config(const char* name, int64_t groups, int lanes, cudaStream_t stream) {
  return {.grid = grid_for(groups, lanes), .block = kThreads, .stream = stream, .name = name};
}

// Calls body.operator()<N>() with the columns that a thread can load at once.
template <class E, class Body>
void with_width(int64_t dim, bool aligned, const Body& body) {
  if (aligned && dim % kVector<E> == 0) return body.template operator()<kVector<E>>();
  body.template operator()<1>();
}

// Lookups in tables of one number format and number of columns.
template <int N, class E>
void enqueue_bags(std::span<const TableLookup> lookups, std::span<const size_t> members,
                  BadIds policy, const BagCheck& bag_check, std::deque<Scratch<float>>& pieces,
                  cudaStream_t stream) {
  std::vector<BagJob<E>> jobs;
  std::vector<PieceJob<TableRows<E>, int64_t>> sums;
  for (const size_t i : members) {
    const auto& [table, bags, pool, out] = lookups[i];
    pieces.emplace_back(PieceLists<int64_t>::places(bags.n) * table.cols, stream);
    sums.push_back({TableRows<E>(table, bags.ids, bags.weights),
                    {bags.offsets, bags.bags, bags.n, pieces.back().data(), table.cols},
                    bag_check.device(i)});
    jobs.push_back({sums.back(), out, pool == Pool::kMean});
  }
  sum_pieces<N, TableRows<E>, int64_t>(sums, stream);
  const int lanes = lanes_for(jobs[0].out.cols, N);
  in_portions<BagJob<E>>(
      jobs, [](const BagJob<E>& job) { return job.out.rows; },
      [&](const Several<BagJob<E>>& portion, size_t, unsigned count, int64_t bags) {
        check(launch(embedding_bag_kernel<N, E>,
                     {.grid = grid_for(bags, lanes, count),
                      .block = kThreads,
                      .stream = stream,
                      .name = "embedding_bag"},
                     portion, policy == BadIds::kThrow, bag_check.of_any(), lanes),
              "embedding_bag");
      });
}

// The runs of a plan with the sums of the pieces of long ones, enqueued by the constructor.
class RunSums {
 public:
  RunSums(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
          MatrixView<const float> grad, bool aligned, cudaStream_t stream)
      : pieces_(plan.long_runs ? PieceLists<int32_t>::places(plan.entries) * grad.cols : 0, stream),
        gradients_{{grad.data, grad.ld, plan.entry, bags.weights,
                    pool == Pool::kMean ? bags.offsets : nullptr},
                   {plan.run_start, plan.runs, plan.entries, pieces_.data(), grad.cols},
                   plan.row} {
    if (!plan.long_runs) return;
    const PieceJob<GradientRows, int32_t> job{gradients_.rows, gradients_.runs, nullptr};
    with_width<float>(grad.cols, aligned, [&]<int N>() {
      sum_pieces<N, GradientRows, int32_t>({&job, 1}, stream);
    });
  }

  const RunGradients& gradients() const { return gradients_; }

 private:
  Scratch<float> pieces_;
  RunGradients gradients_;
};

// Whether gradients are finite: enqueued before the updates, which read the verdict on the device
// and touch nothing where it is bad.
class GradientCheck {
 public:
  explicit GradientCheck(cudaStream_t stream) : stream_(stream), first_(1, stream) {
    check(cudaMemsetAsync(first_.data(), 0xFF, sizeof(RowPlace), stream), "gradient check");
  }

  void add(MatrixView<const float> grad) {
    find_non_finite_row(grad, static_cast<int64_t>(added_.size()), first_.data(), stream_);
    added_.push_back(grad);
  }
  const RowPlace* device() const { return first_.data(); }

  // Synchronises the stream. A bad row is handed to fail(matrix, row, its numbers), which throws.
  template <class Fail>
  void finish(const Fail& fail) const {
    const RowPlace place = to_host(first_.data(), 1, stream_)[0];
    if (place == kNoRow) return;
    const size_t matrix = place >> 32;
    const auto row = static_cast<int64_t>(place & 0xFFFFFFFFU);
    const MatrixView<const float> grad = added_[matrix];
    fail(matrix, row, to_host(grad.data + row * grad.ld, grad.cols, stream_));
  }

 private:
  cudaStream_t stream_;
  Scratch<RowPlace> first_;
  std::vector<MatrixView<const float>> added_;
};

}  // namespace

UpdateRule::UpdateRule(const OptimizerStep& step)
    : lr(step.lr),
      eps(step.eps),
      beta1(step.beta1),
      beta2(step.beta2),
      keep(1.0F - step.lr * step.weight_decay),
      rate(step.lr),
      v_scale(1.0F),
      step_key(rounding::step_key(step.seed, step.step)) {
  if (step.kind != Optimizer::kAdam) return;
  rate = static_cast<float>(step.lr / (1.0 - std::pow(double{step.beta1}, step.step)));
  v_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double{step.beta2}, step.step)));
}

// One launch takes many lookups, and the host waits once.
std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec) {
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  std::vector<PlanInput> checked;
  struct Kind {
    RowFormat format;
    int64_t cols;
    bool aligned;
    auto operator<=>(const Kind&) const = default;
  };
  std::map<Kind, std::vector<size_t>> kinds;
  for (size_t i = 0; i < lookups.size(); ++i) {
    const auto& [table, bags, pool, out] = lookups[i];
    checked.push_back({table.rows, bags});
    const bool aligned = is_aligned(table.data, table.stride, 16) && is_aligned(out);
    if (out.rows > 0) kinds[{table.format, table.cols, aligned}].push_back(i);
  }
  const BagCheck bag_check(checked, stream);
  std::deque<Scratch<float>> pieces;
  for (const auto& [kind, members] : kinds) {
    with_element(kind.format, [&](auto element) {
      using E = decltype(element);
      with_width<E>(kind.cols, kind.aligned, [&]<int N>() {
        enqueue_bags<N, E>(lookups, members, policy, bag_check, pieces, stream);
      });
    });
  }
  return bag_check.finish(policy);
}

void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec) {
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  GradientCheck gradients(stream);
  for (const TableUpdate& u : updates) gradients.add(u.grad);
  for (const TableUpdate& u : updates) {
    const bool aligned =
        is_aligned(u.grad) && rows_are_aligned(u.table, u.state0, u.state1, u.step.kind);
    const RunSums sums(u.plan->data(), u.bags, u.pool, u.grad, aligned, stream);
    with_width<float>(u.table.cols, aligned, [&]<int N>() {
      update_rows<N>(sums.gradients(), u.plan->data().runs, u.table, u.state0, u.state1, u.step,
                     gradients.device(), stream);
    });
  }
  gradients.finish([&](size_t i, int64_t bag, std::span<const float> row) {
    throw_bad_gradient(bags_label(updates[i].bags), "bag", bag, row);
  });
}

void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec) {
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  GradientCheck gradients(stream);
  gradients.add(row_grad);
  const bool aligned = is_aligned(row_grad) && rows_are_aligned(table, state0, state1, step.kind);
  with_width<float>(table.cols, aligned, [&]<int N>() {
    update_rows<N>(GivenGradients{row_grad.data, row_grad.ld, rows}, row_grad.rows, table, state0,
                   state1, step, gradients.device(), stream);
  });
  gradients.finish([](size_t, int64_t row, std::span<const float> gradient) {
    throw_bad_gradient("apply_row_gradient: ", "row", row, gradient);
  });
}

void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec) {
  if (plan.runs == 0) return;
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  const bool aligned = is_aligned(grad) && is_aligned(row_grad);
  const RunSums sums(plan, bags, pool, grad, aligned, stream);
  with_width<float>(grad.cols, aligned, [&]<int N>() {
    const int lanes = lanes_for(grad.cols, N);
    check(launch(row_gradient_kernel<N>, config("row_gradient", plan.runs, lanes, stream),
                 sums.gradients(), row_grad, lanes),
          "row_gradient");
  });
}

void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec) {
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  const PlanInput checked{table.rows, bags};
  const BagCheck bag_check({&checked, 1}, stream);
  if (bags.n > 0 && bags.bags > 0) {
    with_element(table.format, [&](auto element) {
      using E = decltype(element);
      with_width<E>(table.cols, is_aligned(table.data, table.stride, 16), [&]<int N>() {
        const int lanes = lanes_for(table.cols, N);
        check(launch(weight_gradient_kernel<N, E>, config("weight_gradient", bags.n, lanes, stream),
                     TableRows<E>(table, bags.ids, nullptr), bags.offsets, bags.n,
                     pool == Pool::kMean, bag_check.device(0), grad, out, lanes),
              "weight_gradient");
      });
    });
  }
  bag_check.finish(BadIds::kDrop);
}

}  // namespace hypertower::cuda
