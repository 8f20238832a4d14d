#include "kernels/topk.h"

#include <algorithm>
#include <atomic>

#include "kernels/cpu/topk.h"
#include "kernels/cuda/topk.h"
#include "kernels/dispatch.h"
#include "kernels/parallel.h"
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

namespace {

bool all_finite(const float* x, int64_t n) {
  constexpr int kLanes = 16;
  float sum[kLanes] = {};  // of x * 0: NaN from the first x that is not finite
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) sum[l] += x[i + l] * 0.0F;
  }
  for (; i < n; ++i) sum[0] += x[i] * 0.0F;
  return std::all_of(sum, sum + kLanes, [](float s) { return s == 0.0F; });
}

}  // namespace

float canonical_score(const float* a, const float* b, int64_t dim) {
  double lane[8] = {};
  int64_t j = 0;
  for (; j + 8 <= dim; j += 8) {
    for (int l = 0; l < 8; ++l) lane[l] += double{a[j + l]} * double{b[j + l]};
  }
  for (int l = 0; j < dim; ++l, ++j) lane[l] += double{a[j]} * double{b[j]};
  return canonical_total(lane);
}

int64_t first_non_finite_row(MatrixView<const float> m, int threads) {
  constexpr int64_t kBlockNumbers = int64_t{1} << 18;
  const int64_t grain = std::max<int64_t>(1, kBlockNumbers / std::max<int64_t>(1, m.cols));
  std::atomic<int64_t> first{m.rows};
  parallel_for(threads, m.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (all_finite(m.row(r), m.cols)) continue;
      int64_t found = first.load();
      while (r < found && !first.compare_exchange_weak(found, r)) {
      }
      return;
    }
  });
  return first == m.rows ? -1 : first.load();
}

}  // namespace hypertower
