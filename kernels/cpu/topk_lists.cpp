#include "kernels/cpu/topk_lists.h"

#include <bit>

#include "kernels/cpu/topk_mask.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kRowGrain = 8;

int64_t row_length(const JaggedView<int64_t>& view, int64_t r) {
  return view.offsets == nullptr ? 0 : view.offsets[r + 1] - view.offsets[r];
}

// At most a quarter full.
size_t places_for(int64_t items) {
  return items == 0 ? 0 : std::bit_ceil(static_cast<size_t>(items) * 4);
}

}  // namespace

AdjustedRows::AdjustedRows(const TopKInput& in, int threads) {
  const int64_t rows = in.queries.rows;
  begin_.assign(rows + 1, 0);
  first_place_.assign(rows + 1, 0);
  num_places_.assign(rows, 0);
  count_.assign(rows, 0);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = row_length(in.exclude, r) + row_length(in.adjust, r);
    begin_[r + 1] = begin_[r] + length;
    first_place_[r + 1] = first_place_[r] + static_cast<int64_t>(places_for(length));
  }
  items_.resize(begin_[rows]);
  places_ = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(first_place_[rows]));
  parallel_for(threads, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) build(in, r);
  });
}

void AdjustedRows::build(const TopKInput& in, int64_t r) {
  constexpr int64_t kAhead = 16;  // bits of a mask lie anywhere
  const uint64_t* const mask = mask_of(in, r);
  Adjusted* const items = items_.data() + begin_[r];
  int64_t passing = 0;
  const auto take = [&](const JaggedView<int64_t>& ids, const auto& delta_of) {
    const int64_t length = row_length(ids, r);
    if (length == 0) return;
    const int64_t* const id = ids.values + ids.offsets[r];
    for (int64_t i = 0; i < length; ++i) {
      if (mask != nullptr) __builtin_prefetch(mask + id[std::min(i + kAhead, length - 1)] / 64);
      if (allowed(mask, id[i])) items[passing++] = {id[i], delta_of(ids.offsets[r] + i)};
    }
  };
  take(in.exclude, [](int64_t) { return -std::numeric_limits<double>::infinity(); });
  take(in.adjust, [&](int64_t at) { return static_cast<double>(in.adjust_delta[at]); });

  // Repeats of an id become one entry, the sum of its deltas in list order.
  const std::span<uint32_t> places(places_.get() + first_place_[r], places_for(passing));
  std::fill(places.begin(), places.end(), AdjustedRow::kEmpty);
  int64_t count = 0;
  for (int64_t i = 0; i < passing; ++i) {
    size_t at = AdjustedRow::home(items[i].id, places.size());
    while (places[at] != AdjustedRow::kEmpty && items[places[at]].id != items[i].id) {
      at = (at + 1) & (places.size() - 1);
    }
    if (places[at] != AdjustedRow::kEmpty) {
      items[places[at]].delta += items[i].delta;
      continue;
    }
    places[at] = static_cast<uint32_t>(count);
    items[count++] = items[i];
  }
  num_places_[r] = places.size();
  count_[r] = count;
}

}  // namespace hypertower::cpu
