#include "kernels/cpu/topk_lists.h"

#include <bit>

#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kRowGrain = 8;

int64_t row_length(const JaggedView<int64_t>& view, int64_t r) {
  return view.offsets == nullptr ? 0 : view.offsets[r + 1] - view.offsets[r];
}

}  // namespace

AdjustedRows::AdjustedRows(const TopKInput& in, int threads) {
  const int64_t rows = in.queries.rows;
  begin_.assign(rows + 1, 0);
  first_place_.assign(rows + 1, 0);
  count_.assign(rows, 0);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = row_length(in.exclude, r) + row_length(in.adjust, r);
    begin_[r + 1] = begin_[r] + length;
    // At most a quarter full.
    const uint64_t places = length == 0 ? 0 : std::bit_ceil(static_cast<uint64_t>(length) * 4);
    first_place_[r + 1] = first_place_[r] + static_cast<int64_t>(places);
  }
  items_.resize(begin_[rows]);
  places_.resize(first_place_[rows], AdjustedRow::kEmpty);
  parallel_for(threads, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) build(in, r);
  });
}

void AdjustedRows::build(const TopKInput& in, int64_t r) {
  Adjusted* const items = items_.data() + begin_[r];
  const std::span<uint32_t> places(places_.data() + first_place_[r],
                                   static_cast<size_t>(first_place_[r + 1] - first_place_[r]));
  int64_t count = 0;
  // Repeats of an id become one entry, the sum of its deltas in list order.
  const auto add = [&](int64_t id, double delta) {
    size_t at = AdjustedRow::home(id, places.size());
    while (places[at] != AdjustedRow::kEmpty && items[places[at]].id != id) {
      at = (at + 1) & (places.size() - 1);
    }
    if (places[at] != AdjustedRow::kEmpty) {
      items[places[at]].delta += delta;
      return;
    }
    places[at] = static_cast<uint32_t>(count);
    items[count++] = {id, delta};
  };
  for (int64_t i = 0; i < row_length(in.exclude, r); ++i) {
    add(in.exclude.values[in.exclude.offsets[r] + i], -std::numeric_limits<double>::infinity());
  }
  for (int64_t i = 0; i < row_length(in.adjust, r); ++i) {
    const int64_t at = in.adjust.offsets[r] + i;
    add(in.adjust.values[at], in.adjust_delta[at]);
  }
  count_[r] = count;
}

}  // namespace hypertower::cpu
