#include "kernels/topk.h"

#include <cmath>

#include "kernels/cpu/topk.h"
#include "kernels/cuda/topk.h"
#include "kernels/dispatch.h"
#include "kernels/topk_check.h"
#include "kernels/topk_key.h"

namespace hypertower {

void topk(const TopKInput& in, const TopKOutput& out, const Exec& exec) {
  topk_check::shapes(in, out);
  if (exec.device == DeviceType::kCpu) return cpu::topk(in, out, exec.threads);
  if constexpr (kWithCuda) return cuda::topk(in, out, exec.stream);
  throw_no_cuda("topk");
}

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, const Exec& exec) {
  topk_check::pair_shapes(queries, items, ids, out);
  if (exec.device == DeviceType::kCpu) {
    return cpu::score_pairs(queries, items, ids, out, exec.threads);
  }
  if constexpr (kWithCuda) return cuda::score_pairs(queries, items, ids, out, exec.stream);
  throw_no_cuda("score_pairs");
}

float canonical_score(const float* a, const float* b, int64_t dim) {
  double lane[8] = {};
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    for (int l = 0; l < 8; ++l) lane[l] += double{a[j + l]} * double{b[j + l]};
  }
  for (int l = 0; j < dim; ++l, ++j) lane[l] += double{a[j]} * double{b[j]};
  return canonical_total(lane);
}

int64_t first_non_finite_row(MatrixView<const float> m) {
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) {
      if (!std::isfinite(m.row(r)[c])) return r;
    }
  }
  return -1;
}

}  // namespace hypertower
