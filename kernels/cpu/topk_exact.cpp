#include "kernels/cpu/topk_exact.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/cpu/canonical.h"
#include "kernels/cpu/topk_mask.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

constexpr int64_t kChunk = 256;              // scored at once
constexpr int64_t kMinItemsPerRange = 4096;  // below, starting a thread costs more than it saves

// Some of the items against a few rows.
class ExactScan {
 public:
  ExactScan(const Shard& shard, const std::vector<uint32_t>* items, std::span<const ScanRow> rows,
            std::span<BestKeys> best)
      : shard_(shard), items_(items), rows_(rows), best_(best) {
    const int64_t stride = canonical_stride(shard.rows.cols);
    queries_.resize(rows.size() * static_cast<size_t>(stride));
    for (size_t r = 0; r < rows.size(); ++r) {
      widen_query(rows[r].query, shard.rows.cols,
                  queries_.data() + r * static_cast<size_t>(stride));
    }
  }

  void run(int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kChunk) {
      chunk(first, std::min(kChunk, end - first));
    }
  }

 private:
  int64_t item(int64_t i) const {
    return items_ == nullptr ? i : (*items_)[static_cast<size_t>(i)];
  }

  bool any_allowed(int64_t first, int64_t count) const {
    for (int64_t i = first; i < first + count; ++i) {
      const int64_t id = shard_.first_id + item(i);
      if (!allowed(shard_.live, id)) continue;
      for (const ScanRow& row : rows_) {
        if (allowed(row.mask, id)) return true;
      }
    }
    return false;
  }

  void chunk(int64_t first, int64_t count) {
    if (!any_allowed(first, count)) return;
    const uint32_t* listed = items_ == nullptr ? nullptr : items_->data() + first;
    const int64_t stride = canonical_stride(shard_.rows.cols);
    const auto rows = static_cast<int64_t>(rows_.size());
    float scores[kCanonicalQueries * kChunk];
    for (int64_t r = 0; r < rows; r += kCanonicalQueries) {
      const int n = static_cast<int>(std::min<int64_t>(kCanonicalQueries, rows - r));
      canonical_scores(queries_.data() + r * stride, n, shard_.rows, listed, first, count, scores);
      for (int q = 0; q < n; ++q) {
        for (int64_t i = 0; i < count; ++i) {
          if (scores[i * n + q] >= best_[r + q].gate()) offer(r + q, scores[i * n + q], first + i);
        }
      }
    }
  }

  void offer(int64_t r, float score, int64_t i) {
    const ScanRow& row = rows_[r];
    const int64_t id = shard_.first_id + item(i);
    if (!allowed(row.mask, id) || !allowed(shard_.live, id)) return;
    if (row.adjusted.contains(id)) return;
    best_[r].push(topk_key::make(score, id));
  }

  const Shard& shard_;
  const std::vector<uint32_t>* items_;
  const std::span<const ScanRow> rows_;
  const std::span<BestKeys> best_;
  std::vector<double> queries_;
};

}  // namespace

void scan_exactly(const Shard& shard, const std::vector<uint32_t>* items, std::span<ScanRow> rows,
                  int64_t keep, int threads) {
  const int64_t count = items == nullptr ? shard.rows.rows : static_cast<int64_t>(items->size());
  const auto num_rows = static_cast<int64_t>(rows.size());
  if (count == 0 || num_rows == 0) return;
  // Threads take ranges of items, and where there are too few items, some of the rows.
  const auto ceil_div = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t wanted = std::clamp<int64_t>(count / kMinItemsPerRange, 1, threads);
  const int64_t range = ceil_div(ceil_div(count, wanted), kChunk) * kChunk;
  const int64_t ranges = ceil_div(count, range);
  const int64_t row_parts =
      std::min(ceil_div(threads, ranges), ceil_div(num_rows, kCanonicalQueries));
  const int64_t part =
      ceil_div(ceil_div(num_rows, row_parts), kCanonicalQueries) * kCanonicalQueries;
  std::vector<std::vector<BestKeys>> best(static_cast<size_t>(ranges),
                                          std::vector<BestKeys>(rows.size(), BestKeys(keep)));
  parallel_for(threads, ranges * row_parts, 1, [&](int64_t task, int64_t) {
    const int64_t first_row = std::min(task / ranges * part, num_rows);
    const auto n = static_cast<size_t>(std::min(part, num_rows - first_row));
    const int64_t begin = task % ranges * range;
    ExactScan(shard, items, rows.subspan(static_cast<size_t>(first_row), n),
              std::span(best[task % ranges]).subspan(static_cast<size_t>(first_row), n))
        .run(begin, std::min(count, begin + range));
  });
  for (int64_t r = 0; r < num_rows; ++r) {
    std::vector<uint64_t>& keys = rows[r].keys;
    for (const auto& of_range : best) {
      keys.insert(keys.end(), of_range[r].keys().begin(), of_range[r].keys().end());
    }
    if (static_cast<int64_t>(keys.size()) <= keep) continue;
    std::nth_element(keys.begin(), keys.begin() + (keep - 1), keys.end(), std::greater<>());
    keys.resize(static_cast<size_t>(keep));
  }
}

}  // namespace hypertower::cpu
