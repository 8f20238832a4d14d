#include "kernels/cpu/topk_lists.h"

#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

int64_t row_length(const JaggedView<int64_t>& view, int64_t r) {
  return view.offsets == nullptr ? 0 : view.offsets[r + 1] - view.offsets[r];
}

}  // namespace

AdjustedRows::AdjustedRows(const TopKInput& in, int threads) {
  const int64_t rows = in.queries.rows;
  begin_.assign(rows + 1, 0);
  count_.assign(rows, 0);
  for (int64_t r = 0; r < rows; ++r) {
    begin_[r + 1] = begin_[r] + row_length(in.exclude, r) + row_length(in.adjust, r);
  }
  values_.resize(begin_[rows]);
  parallel_for(threads, rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) build(in, r);
  });
}

void AdjustedRows::build(const TopKInput& in, int64_t r) {
  Adjusted* const first = values_.data() + begin_[r];
  Adjusted* last = first;
  const auto append = [&](int64_t id, double delta) {
    *last = {id, last - first, delta};
    ++last;
  };
  for (int64_t i = 0; i < row_length(in.exclude, r); ++i) {
    append(in.exclude.values[in.exclude.offsets[r] + i], -std::numeric_limits<double>::infinity());
  }
  for (int64_t i = 0; i < row_length(in.adjust, r); ++i) {
    const int64_t at = in.adjust.offsets[r] + i;
    append(in.adjust.values[at], in.adjust_delta[at]);
  }
  // Repeats of an id become one entry, the sum of its deltas in list order.
  std::sort(first, last, [](const Adjusted& a, const Adjusted& b) {
    return a.id != b.id ? a.id < b.id : a.place < b.place;
  });
  Adjusted* kept = first;
  for (Adjusted* a = first; a != last;) {
    Adjusted sum = *a++;
    for (; a != last && a->id == sum.id; ++a) sum.delta += a->delta;
    *kept++ = sum;
  }
  count_[r] = kept - first;
}

}  // namespace hypertower::cpu
