// The update of one table row by its gradient, one class per optimizer (rules: OptimizerStep in
// kernels/embedding.h). Included once per SIMD target, after gather_reduce-inl.h.
#if defined(HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#undef HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#else
#define HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#endif

#include <cmath>
#include <type_traits>

#include "kernels/cpu/gather_reduce-inl.h"
#include "kernels/embedding.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A row of the table, trained: E is the type of its numbers.
template <class E>
class TrainedRows {
 public:
  TrainedRows(const Table& table, const OptimizerStep& step)
      : table_(table),
        keep_(1.0F - step.lr * step.weight_decay),
        step_key_(rounding::step_key(step.seed, step.step)) {}

  int64_t dim() const { return table_.cols; }

  HWY_INLINE void prefetch(int64_t row) const {
    prefetch_row(table_.row(row), dim() * int64_t{sizeof(E)});
  }

  // w <- w * keep - rate * direction(tag, column), where keep carries the decoupled weight decay.
  template <class Direction>
  HWY_INLINE void descend(int64_t row, float rate, const Direction& direction) const {
    E* HWY_RESTRICT w = reinterpret_cast<E*>(table_.row(row));
    const uint32_t key = std::is_same_v<E, float> ? 0 : rounding::row_key(step_key_, row);
    for_each_vector(dim(), [&](auto d, int64_t c) HWY_ATTR {
      const auto kept = hn::Mul(load_row(d, w + c), hn::Set(d, keep_));
      store_row(d, hn::NegMulAdd(hn::Set(d, rate), direction(d, c), kept), w + c, key, c);
    });
  }

 private:
  Table table_;
  float keep_;
  uint64_t step_key_;
};

template <class E>
class Sgd {
 public:
  Sgd(const Table& table, const OptimizerStep& step) : rows_(table, step), rate_(step.lr) {}

  HWY_INLINE void prefetch(int64_t row) const { rows_.prefetch(row); }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    rows_.descend(row, rate_, [&](auto d, int64_t c) HWY_ATTR { return hn::LoadU(d, g + c); });
  }

 private:
  TrainedRows<E> rows_;
  float rate_;
};

template <class E>
class RowWiseAdagrad {
 public:
  RowWiseAdagrad(const Table& table, MatrixView<float> sum, const OptimizerStep& step)
      : rows_(table, step), sum_(sum), lr_(step.lr), eps_(step.eps) {}

  HWY_INLINE void prefetch(int64_t row) const {
    rows_.prefetch(row);
    prefetch_line(sum_.row(row));
  }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    float& sum = *sum_.row(row);
    sum += dot(g, g, rows_.dim()) / static_cast<float>(rows_.dim());
    rows_.descend(row, lr_ / (std::sqrt(sum) + eps_),
                  [&](auto d, int64_t c) HWY_ATTR { return hn::LoadU(d, g + c); });
  }

 private:
  TrainedRows<E> rows_;
  MatrixView<float> sum_;
  float lr_, eps_;
};

template <class E>
class Adagrad {
 public:
  Adagrad(const Table& table, MatrixView<float> sum, const OptimizerStep& step)
      : rows_(table, step), sum_(sum), lr_(step.lr), eps_(step.eps) {}

  HWY_INLINE void prefetch(int64_t row) const {
    rows_.prefetch(row);
    prefetch_row(sum_.row(row), rows_.dim() * int64_t{sizeof(float)});
  }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    float* HWY_RESTRICT sums = sum_.row(row);
    rows_.descend(row, lr_, [&](auto d, int64_t c) HWY_ATTR {
      const auto gradient = hn::LoadU(d, g + c);
      const auto sum = hn::MulAdd(gradient, gradient, hn::LoadU(d, sums + c));
      hn::StoreU(sum, d, sums + c);
      return hn::Div(gradient, hn::Add(hn::Sqrt(sum), hn::Set(d, eps_)));
    });
  }

 private:
  TrainedRows<E> rows_;
  MatrixView<float> sum_;
  float lr_, eps_;
};

// m and v move only on the rows of a step; their bias is corrected by the global step.
template <class E>
class Adam {
 public:
  Adam(const Table& table, MatrixView<float> m, MatrixView<float> v, const OptimizerStep& step)
      : rows_(table, step),
        m_(m),
        v_(v),
        beta1_(step.beta1),
        beta2_(step.beta2),
        eps_(step.eps),
        rate_(static_cast<float>(step.lr / (1.0 - std::pow(double{step.beta1}, step.step)))),
        v_scale_(
            static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double{step.beta2}, step.step)))) {}

  HWY_INLINE void prefetch(int64_t row) const {
    rows_.prefetch(row);
    prefetch_row(m_.row(row), rows_.dim() * int64_t{sizeof(float)});
    prefetch_row(v_.row(row), rows_.dim() * int64_t{sizeof(float)});
  }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    float* HWY_RESTRICT m = m_.row(row);
    float* HWY_RESTRICT v = v_.row(row);
    rows_.descend(row, rate_, [&](auto d, int64_t c) HWY_ATTR {
      const auto gradient = hn::LoadU(d, g + c);
      const auto first = hn::MulAdd(hn::Set(d, beta1_), hn::LoadU(d, m + c),
                                    hn::Mul(hn::Set(d, 1.0F - beta1_), gradient));
      const auto second =
          hn::MulAdd(hn::Set(d, beta2_), hn::LoadU(d, v + c),
                     hn::Mul(hn::Set(d, 1.0F - beta2_), hn::Mul(gradient, gradient)));
      hn::StoreU(first, d, m + c);
      hn::StoreU(second, d, v + c);
      return hn::Div(first, hn::MulAdd(hn::Sqrt(second), hn::Set(d, v_scale_), hn::Set(d, eps_)));
    });
  }

 private:
  TrainedRows<E> rows_;
  MatrixView<float> m_, v_;
  float beta1_, beta2_, eps_;
  float rate_;
  float v_scale_;
};

template <class E, class Body>
HWY_INLINE void with_optimizer_of(const Table& table, MatrixView<float> state0,
                                  MatrixView<float> state1, const OptimizerStep& step,
                                  const Body& body) {
  switch (step.kind) {
    case Optimizer::kSgd:
      return body(Sgd<E>(table, step));
    case Optimizer::kRowWiseAdagrad:
      return body(RowWiseAdagrad<E>(table, state0, step));
    case Optimizer::kAdagrad:
      return body(Adagrad<E>(table, state0, step));
    case Optimizer::kAdam:
      return body(Adam<E>(table, state0, state1, step));
  }
}

// Calls body(optimizer) with the class that `step` and the format of the table name.
template <class Body>
HWY_INLINE void with_optimizer(const Table& table, MatrixView<float> state0,
                               MatrixView<float> state1, const OptimizerStep& step,
                               const Body& body) {
  switch (table.format) {
    case RowFormat::kFloat32:
      return with_optimizer_of<float>(table, state0, state1, step, body);
    case RowFormat::kBfloat16:
      return with_optimizer_of<Bfloat16>(table, state0, state1, step, body);
    case RowFormat::kFloat16:
      return with_optimizer_of<Float16>(table, state0, state1, step, body);
    case RowFormat::kInt8:
      break;  // refused by kernels/embedding.cpp
  }
}

}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
