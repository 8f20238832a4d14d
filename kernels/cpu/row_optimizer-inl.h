// The update of one table row by its gradient, one class per optimizer (rules: OptimizerStep in
// kernels/embedding.h). Included once per SIMD target, after gather_reduce-inl.h.
#if defined(HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#undef HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#else
#define HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
#endif

#include <cmath>

#include "kernels/cpu/gather_reduce-inl.h"
#include "kernels/embedding.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Calls body(tag, column) for full vectors, then for ever narrower ones up to `dim`.
template <class Body>
HWY_INLINE void for_each_vector(int64_t dim, const Body& body) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + lanes <= dim; c += lanes) body(d, c);
  if (dim - c >= 8) {
    body(hn::CappedTag<float, 8>(), c);
    c += 8;
  }
  if (dim - c >= 4) {
    body(hn::CappedTag<float, 4>(), c);
    c += 4;
  }
  for (; c < dim; ++c) body(hn::CappedTag<float, 1>(), c);
}

// w <- w * keep - rate * g, where keep carries the decoupled weight decay.
HWY_INLINE void descend(float* HWY_RESTRICT w, const float* HWY_RESTRICT g, int64_t dim, float keep,
                        float rate) {
  for_each_vector(dim, [&](auto d, int64_t c) HWY_ATTR {
    const auto kept = hn::Mul(hn::LoadU(d, w + c), hn::Set(d, keep));
    hn::StoreU(hn::NegMulAdd(hn::Set(d, rate), hn::LoadU(d, g + c), kept), d, w + c);
  });
}

class Sgd {
 public:
  Sgd(MatrixView<float> table, const OptimizerStep& step)
      : table_(table), rate_(step.lr), keep_(1.0F - step.lr * step.weight_decay) {}

  HWY_INLINE void prefetch(int64_t row) const { prefetch_row(table_.row(row), table_.cols); }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    descend(table_.row(row), g, table_.cols, keep_, rate_);
  }

 private:
  MatrixView<float> table_;
  float rate_;
  float keep_;
};

class RowWiseAdagrad {
 public:
  RowWiseAdagrad(MatrixView<float> table, MatrixView<float> sum, const OptimizerStep& step)
      : table_(table), sum_(sum), step_(step), keep_(1.0F - step.lr * step.weight_decay) {}

  HWY_INLINE void prefetch(int64_t row) const {
    prefetch_row(table_.row(row), table_.cols);
    hwy::Prefetch(sum_.row(row));
  }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    float& sum = *sum_.row(row);
    sum += dot(g, g, table_.cols) / static_cast<float>(table_.cols);
    descend(table_.row(row), g, table_.cols, keep_, step_.lr / (std::sqrt(sum) + step_.eps));
  }

 private:
  MatrixView<float> table_;
  MatrixView<float> sum_;
  OptimizerStep step_;
  float keep_;
};

// m and v move only on the rows of a step; their bias is corrected by the global step.
class Adam {
 public:
  Adam(MatrixView<float> table, MatrixView<float> m, MatrixView<float> v, const OptimizerStep& step)
      : table_(table),
        m_(m),
        v_(v),
        step_(step),
        keep_(1.0F - step.lr * step.weight_decay),
        rate_(static_cast<float>(step.lr / (1.0 - std::pow(double{step.beta1}, step.step)))),
        v_scale_(
            static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(double{step.beta2}, step.step)))) {}

  HWY_INLINE void prefetch(int64_t row) const {
    prefetch_row(table_.row(row), table_.cols);
    prefetch_row(m_.row(row), table_.cols);
    prefetch_row(v_.row(row), table_.cols);
  }

  HWY_INLINE void apply(int64_t row, const float* g) const {
    float* HWY_RESTRICT w = table_.row(row);
    float* HWY_RESTRICT m = m_.row(row);
    float* HWY_RESTRICT v = v_.row(row);
    for_each_vector(table_.cols, [&](auto d, int64_t c) HWY_ATTR {
      const auto gradient = hn::LoadU(d, g + c);
      const auto first = hn::MulAdd(hn::Set(d, step_.beta1), hn::LoadU(d, m + c),
                                    hn::Mul(hn::Set(d, 1.0F - step_.beta1), gradient));
      const auto second =
          hn::MulAdd(hn::Set(d, step_.beta2), hn::LoadU(d, v + c),
                     hn::Mul(hn::Set(d, 1.0F - step_.beta2), hn::Mul(gradient, gradient)));
      hn::StoreU(first, d, m + c);
      hn::StoreU(second, d, v + c);
      const auto root = hn::MulAdd(hn::Sqrt(second), hn::Set(d, v_scale_), hn::Set(d, step_.eps));
      const auto kept = hn::Mul(hn::LoadU(d, w + c), hn::Set(d, keep_));
      hn::StoreU(hn::NegMulAdd(hn::Set(d, rate_), hn::Div(first, root), kept), d, w + c);
    });
  }

 private:
  MatrixView<float> table_;
  MatrixView<float> m_;
  MatrixView<float> v_;
  OptimizerStep step_;
  float keep_;
  float rate_;
  float v_scale_;
};

// Calls body(optimizer) with the class that `step` names.
template <class Body>
HWY_INLINE void with_optimizer(MatrixView<float> table, MatrixView<float> state0,
                               MatrixView<float> state1, const OptimizerStep& step,
                               const Body& body) {
  switch (step.kind) {
    case Optimizer::kSgd:
      return body(Sgd(table, step));
    case Optimizer::kRowWiseAdagrad:
      return body(RowWiseAdagrad(table, state0, step));
    case Optimizer::kAdam:
      return body(Adam(table, state0, state1, step));
  }
}

}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // HYPERTOWER_CPU_ROW_OPTIMIZER_INL_H_
