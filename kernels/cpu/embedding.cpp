// Embedding bags on the CPU. Bound by memory: a lookup reads n rows of D floats once; a step reads
// n rows of the gradient (mostly from cache) and reads and writes each touched row once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include <algorithm>
#include <vector>

#include "hwy/highway.h"
#include "kernels/cpu/embedding_plan.h"
#include "kernels/cpu/gather_reduce-inl.h"
#include "kernels/cpu/row_optimizer-inl.h"
#include "kernels/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {

// Rows of a table, named by the ids of a lookup.
template <bool kWeighted, bool kMayBeBad>
struct TableRows {
  static constexpr bool kScaled = kWeighted;
  MatrixView<const float> table;
  const Bags& bags;

  HWY_INLINE bool valid(int64_t e) const { return !kMayBeBad || is_row(bags.ids[e], table.rows); }
  HWY_INLINE const float* row(int64_t e) const { return table.data + bags.ids[e] * table.ld; }
  HWY_INLINE float scale(int64_t e) const { return bags.weights[e]; }
  HWY_INLINE void prefetch(int64_t e) const {
    if (e < bags.n && valid(e)) prefetch_row(row(e), table.cols);
  }
};

// Rows of the output gradient, named by the entries of a plan.
template <bool kScaledRows>
struct GradientRows {
  static constexpr bool kScaled = kScaledRows;
  MatrixView<const float> grad;
  const EmbeddingPlan::Data& plan;
  const Bags& bags;
  Pool pool;

  HWY_INLINE uint32_t bag(int64_t e) const { return static_cast<uint32_t>(plan.entry[e]); }
  HWY_INLINE bool valid(int64_t) const { return true; }
  HWY_INLINE const float* row(int64_t e) const { return grad.data + bag(e) * grad.ld; }
  HWY_INLINE float scale(int64_t e) const {
    const float weight = bags.weights != nullptr ? bags.weights[plan.entry[e] >> 32] : 1.0F;
    if (pool == Pool::kSum) return weight;
    return weight / static_cast<float>(bags.offsets[bag(e) + 1] - bags.offsets[bag(e)]);
  }
  HWY_INLINE void prefetch(int64_t e) const {
    if (e < plan.entries) prefetch_row(row(e), grad.cols);
  }
};

template <bool kWeighted, bool kMayBeBad>
void pool_bags(MatrixView<const float> table, const Bags& bags, Pool pool, MatrixView<float> out,
               int64_t begin, int64_t end) {
  const TableRows<kWeighted, kMayBeBad> rows{table, bags};
  for (int64_t b = begin; b < end; ++b) {
    float* sum = out.data + b * out.ld;
    const int64_t length = bags.offsets[b + 1] - bags.offsets[b];
    gather_reduce(rows, bags.offsets[b], bags.offsets[b + 1], table.cols, sum);
    if (pool == Pool::kMean && length > 1) {
      const auto count = static_cast<float>(length);
      for (int64_t c = 0; c < table.cols; ++c) sum[c] /= count;
    }
  }
}

void forward_bags(MatrixView<const float> table, const Bags& bags, Pool pool, bool may_be_bad,
                  MatrixView<float> out, int64_t begin, int64_t end) {
  const auto run = bags.weights != nullptr
                       ? (may_be_bad ? pool_bags<true, true> : pool_bags<true, false>)
                       : (may_be_bad ? pool_bags<false, true> : pool_bags<false, false>);
  run(table, bags, pool, out, begin, end);
}

// consume(run, gradient of its row [D]) for each run in [begin, end).
template <class Consume>
HWY_INLINE void sum_runs(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                         MatrixView<const float> grad, int64_t begin, int64_t end,
                         const Consume& consume) {
  std::vector<float> sum(grad.cols);
  const auto all = [&](const auto& rows) HWY_ATTR {
    for (int64_t run = begin; run < end; ++run) {
      gather_reduce(rows, plan.run_start[run], plan.run_start[run + 1], grad.cols, sum.data());
      consume(run, sum.data());
    }
  };
  if (pool == Pool::kSum && bags.weights == nullptr) {
    all(GradientRows<false>{grad, plan, bags, pool});
  } else {
    all(GradientRows<true>{grad, plan, bags, pool});
  }
}

void update_runs(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                 const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                 MatrixView<const float> grad, const OptimizerStep& step, int64_t begin,
                 int64_t end) {
  constexpr int64_t kAhead = 8;  // runs; a row is written back, so it is asked for early
  with_optimizer(table, state0, state1, step, [&](const auto& optimizer) HWY_ATTR {
    sum_runs(plan, bags, pool, grad, begin, end, [&](int64_t run, const float* g) HWY_ATTR {
      if (run + kAhead < plan.runs) optimizer.prefetch(plan.row[run + kAhead]);
      optimizer.apply(plan.row[run], g);
    });
  });
}

void gradient_runs(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                   MatrixView<const float> grad, MatrixView<float> row_grad, int64_t begin,
                   int64_t end) {
  sum_runs(plan, bags, pool, grad, begin, end, [&](int64_t run, const float* g) HWY_ATTR {
    std::copy_n(g, grad.cols, row_grad.data + run * row_grad.ld);
  });
}

void update_rows(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                 const int64_t* rows, MatrixView<const float> row_grad, const OptimizerStep& step,
                 int64_t begin, int64_t end) {
  with_optimizer(table, state0, state1, step, [&](const auto& optimizer) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) optimizer.apply(rows[i], row_grad.row(i));
  });
}

void weight_gradient_bags(MatrixView<const float> table, const Bags& bags, Pool pool,
                          MatrixView<const float> grad, float* out, int64_t begin, int64_t end) {
  const TableRows<false, true> rows{table, bags};
  for (int64_t b = begin; b < end; ++b) {
    const int64_t length = bags.offsets[b + 1] - bags.offsets[b];
    const float divisor = pool == Pool::kMean ? static_cast<float>(length) : 1.0F;
    for (int64_t e = bags.offsets[b]; e < bags.offsets[b + 1]; ++e) {
      rows.prefetch(e + kPrefetchDistance);
      out[e] = rows.valid(e) ? dot(grad.row(b), rows.row(e), table.cols) / divisor : 0.0F;
    }
  }
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {
namespace {

HWY_EXPORT(forward_bags);
HWY_EXPORT(update_runs);
HWY_EXPORT(gradient_runs);
HWY_EXPORT(update_rows);
HWY_EXPORT(weight_gradient_bags);

// Bags or runs per block of a parallel loop: short enough to balance a skewed batch.
constexpr int64_t kGrain = 256;

// Starting threads costs more than a small lookup.
int threads_for(const Exec& exec, int64_t ids, int64_t dim) {
  constexpr int64_t kMinFloats = int64_t{1} << 17;
  return ids * dim < kMinFloats ? 1 : exec.threads;
}

}  // namespace

IdReport embedding_bag(MatrixView<const float> table, const Bags& bags, Pool pool, BadIds policy,
                       MatrixView<float> out, const Exec& exec) {
  const IdReport report = check_bags(table.rows, bags, policy);
  parallel_for(
      threads_for(exec, bags.n, table.cols), bags.bags, kGrain, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(forward_bags)(table, bags, pool, report.dropped > 0, out, begin, end);
      });
  return report;
}

void embedding_backward(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                        MatrixView<const float> grad, const OptimizerStep& step, const Exec& exec) {
  parallel_for(threads_for(exec, plan.entries, table.cols), plan.runs, kGrain,
               [&](int64_t begin, int64_t end) {
                 HWY_DYNAMIC_DISPATCH(update_runs)
                 (table, state0, state1, plan, bags, pool, grad, step, begin, end);
               });
}

void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec) {
  parallel_for(threads_for(exec, plan.entries, grad.cols), plan.runs, kGrain,
               [&](int64_t begin, int64_t end) {
                 HWY_DYNAMIC_DISPATCH(gradient_runs)(plan, bags, pool, grad, row_grad, begin, end);
               });
}

void embedding_weight_gradient(MatrixView<const float> table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec) {
  check_offsets(bags);
  parallel_for(
      threads_for(exec, bags.n, table.cols), bags.bags, kGrain, [&](int64_t begin, int64_t end) {
        HWY_DYNAMIC_DISPATCH(weight_gradient_bags)(table, bags, pool, grad, out, begin, end);
      });
}

void apply_row_gradient(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec) {
  parallel_for(threads_for(exec, row_grad.rows, table.cols), row_grad.rows, kGrain,
               [&](int64_t begin, int64_t end) {
                 HWY_DYNAMIC_DISPATCH(update_rows)
                 (table, state0, state1, rows, row_grad, step, begin, end);
               });
}

}  // namespace hypertower::cpu
#endif  // HWY_ONCE
