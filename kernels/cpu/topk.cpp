// One pass over the items for all rows: tiles of 16 items are widened to double once and scored
// against four queries at a time; a score that does not reach its row's gate costs one comparison,
// the others are tested (mask, adjusted items) and collected. Threads take ranges of items, and
// where there are too few items, ranges of rows; the keys of all ranges are merged at the end.
#include "kernels/cpu/topk.h"

#include <cmath>

#include "kernels/cpu/topk_lists.h"
#include "kernels/cpu/topk_tile.h"
#include "kernels/parallel.h"
#include "kernels/topk_check.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kMaskWord = 64;
constexpr int64_t kMinItemsPerRange =
    4096;  // below this, starting a thread costs more than it saves

bool finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

const uint64_t* mask_of(const TopKInput& in, int64_t row) {
  if (in.masks == nullptr) return nullptr;
  const int32_t mask = in.mask_of_row == nullptr ? 0 : in.mask_of_row[row];
  return mask < 0 ? nullptr : in.masks + mask * in.mask_words;
}

bool allowed(const uint64_t* mask, int64_t id) {
  return mask == nullptr || (mask[id / kMaskWord] >> (id % kMaskWord) & 1) != 0;
}

// A row that takes part: its query is finite.
struct ActiveRow {
  int64_t row;
  const uint64_t* mask;  // null: all items
  std::span<const Adjusted> adjusted;
};

struct Batch {
  const TopKInput& in;
  std::vector<ActiveRow> rows;
  std::vector<double> queries;  // [rows, D]
  int64_t keep;                 // keys to keep for each row: min(k, N)
};

// Items [begin, end) against rows [first_row, first_row + best.size()).
class Scan {
 public:
  Scan(const Batch& batch, int64_t first_row, std::span<BestKeys> best)
      : batch_(batch), first_row_(first_row), best_(best), tile_(batch.in.items.cols) {}

  void run(int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kTileItems) {
      scan_tile(first, std::min<int64_t>(kTileItems, end - first));
    }
  }

 private:
  // The tile's bits of a row's mask. A tile never straddles two words.
  uint32_t allowed_bits(const ActiveRow& row, int64_t first, int64_t count) const {
    const uint32_t present = (uint32_t{1} << count) - 1;
    if (row.mask == nullptr) return present;
    return static_cast<uint32_t>(row.mask[first / kMaskWord] >> (first % kMaskWord)) & present;
  }

  void scan_tile(int64_t first, int64_t count) {
    const auto& items = batch_.in.items;
    const int64_t dim = items.cols;
    const int64_t rows = static_cast<int64_t>(best_.size());
    bool packed = false;
    for (int64_t r = 0; r < rows; r += kTileQueries) {
      const int group = static_cast<int>(std::min<int64_t>(kTileQueries, rows - r));
      uint32_t bits[kTileQueries];
      uint32_t any = 0;
      for (int q = 0; q < group; ++q) {
        bits[q] = allowed_bits(batch_.rows[first_row_ + r + q], first, count);
        any |= bits[q];
      }
      if (any == 0) continue;
      if (!packed) pack_tile(items.row(first), items.ld, count, dim, tile_.data());
      packed = true;
      float scores[kTileQueries * kTileItems];
      score_tile(batch_.queries.data() + (first_row_ + r) * dim, group, tile_.data(), dim, scores);
      for (int q = 0; q < group; ++q) collect(r + q, first, bits[q], scores + q * kTileItems);
    }
  }

  void collect(int64_t r, int64_t first, uint32_t bits, const float* scores) {
    BestKeys& best = best_[r];
    const float gate = best.gate();
    bool reached = false;
    for (int i = 0; i < kTileItems; ++i) reached |= scores[i] >= gate;
    if (!reached) return;
    const ActiveRow& row = batch_.rows[first_row_ + r];
    for (int i = 0; i < kTileItems; ++i) {
      if (!(scores[i] >= gate) || (bits >> i & 1) == 0) continue;
      if (AdjustedRows::contains(row.adjusted, first + i)) continue;
      best.push(topk_key::make(scores[i], first + i));
    }
  }

  const Batch& batch_;
  const int64_t first_row_;
  const std::span<BestKeys> best_;
  std::vector<TileColumn> tile_;
};

void empty_from(const TopKOutput& out, int64_t row, int64_t count) {
  for (int64_t i = count; i < out.ids.cols; ++i) {
    out.ids.row(row)[i] = -1;
    out.scores.row(row)[i] = -std::numeric_limits<float>::infinity();
  }
  out.count[row] = static_cast<int32_t>(count);
}

void check_values(const TopKInput& in, int threads) {
  topk_check::offsets(in);
  parallel_for(threads, in.queries.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) topk_check::row_values(in, r);
  });
}

Batch make_batch(const TopKInput& in, const TopKOutput& out, const AdjustedRows& adjusted) {
  Batch batch{in, {}, {}, std::min(in.k, in.items.rows)};
  for (int64_t r = 0; r < in.queries.rows; ++r) {
    const float* query = in.queries.row(r);
    if (finite(query, in.queries.cols)) {
      out.status[r] = RowStatus::kOk;
      batch.rows.push_back({r, mask_of(in, r), adjusted.row(r)});
      batch.queries.insert(batch.queries.end(), query, query + in.queries.cols);
    } else {
      out.status[r] = RowStatus::kNonFiniteQuery;
      empty_from(out, r, 0);
    }
  }
  return batch;
}

// Adds the adjusted items to the keys of the scan and writes the row, best first.
void finish_row(const Batch& batch, const ActiveRow& row, std::vector<uint64_t>& keys,
                const TopKOutput& out) {
  const TopKInput& in = batch.in;
  for (const Adjusted& a : row.adjusted) {
    if (a.delta == -std::numeric_limits<double>::infinity() || !allowed(row.mask, a.id)) continue;
    const float score = canonical_score(in.queries.row(row.row), in.items.row(a.id), in.items.cols);
    keys.push_back(topk_key::make(adjusted_score(score, a.delta), a.id));
  }
  const int64_t count = std::min<int64_t>(static_cast<int64_t>(keys.size()), batch.keep);
  std::partial_sort(keys.begin(), keys.begin() + count, keys.end(), std::greater<>());
  for (int64_t i = 0; i < count; ++i) {
    out.ids.row(row.row)[i] = topk_key::id(keys[i]);
    out.scores.row(row.row)[i] = topk_key::score(keys[i]);
  }
  empty_from(out, row.row, count);
}

}  // namespace

void topk(const TopKInput& in, const TopKOutput& out, int threads) {
  check_values(in, threads);
  const AdjustedRows adjusted(in, threads);
  const Batch batch = make_batch(in, out, adjusted);
  const int64_t rows = static_cast<int64_t>(batch.rows.size());
  const int64_t items = in.items.rows;
  if (rows == 0) return;

  // Ranges of items start at a mask word, so that no tile straddles two.
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t wanted = std::clamp<int64_t>(items / kMinItemsPerRange, 1, threads);
  const int64_t range =
      std::max(ceil_div(ceil_div(items, wanted), kMaskWord), int64_t{1}) * kMaskWord;
  const int64_t ranges = std::max(ceil_div(items, range), int64_t{1});
  const int64_t row_parts = std::min(ceil_div(threads, ranges), ceil_div(rows, kTileQueries));
  const int64_t part = ceil_div(ceil_div(rows, row_parts), kTileQueries) * kTileQueries;

  std::vector<std::vector<BestKeys>> best(ranges,
                                          std::vector<BestKeys>(rows, BestKeys(batch.keep)));
  parallel_for(threads, ranges * row_parts, 1, [&](int64_t task, int64_t) {
    const int64_t first_row = std::min(task / ranges * part, rows);
    const int64_t n = std::min(part, rows - first_row);
    const int64_t begin = task % ranges * range;
    Scan(batch, first_row, std::span(best[task % ranges]).subspan(first_row, n))
        .run(begin, std::min(items, begin + range));
  });

  parallel_for(threads, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> keys;
    for (int64_t r = begin; r < end; ++r) {
      keys.clear();
      for (const auto& range_best : best) {
        keys.insert(keys.end(), range_best[r].keys().begin(), range_best[r].keys().end());
      }
      finish_row(batch, batch.rows[r], keys, out);
    }
  });
}

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, int threads) {
  for (int64_t r = 0; r < ids.rows; ++r) {
    topk_check::pair_ids(r, ids.row(r), ids.cols, items.rows);
  }
  parallel_for(threads, ids.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < ids.cols; ++i) {
        const int64_t id = ids.row(r)[i];
        out.row(r)[i] = id < 0 ? -std::numeric_limits<float>::infinity()
                               : canonical_score(queries.row(r), items.row(id), items.cols);
      }
    }
  });
}

}  // namespace hypertower::cpu
