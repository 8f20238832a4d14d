#include "kernels/topk.h"

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

}  // namespace hypertower
