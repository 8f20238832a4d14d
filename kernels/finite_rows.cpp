#include "kernels/finite_rows.h"

#include <algorithm>
#include <atomic>

#include "kernels/parallel.h"

namespace hypertower {
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
