#include "kernels/cpu/topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/cpu/topk_exact.h"
#include "kernels/cpu/topk_lists.h"
#include "kernels/cpu/topk_mask.h"
#include "kernels/cpu/topk_quantized.h"
#include "kernels/cpu/topk_route.h"
#include "kernels/cpu/topk_scan.h"
#include "kernels/parallel.h"
#include "kernels/topk_check.h"
#include "kernels/topk_key.h"

namespace hypertower::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kRowGrain = 8;
// With fewer rows, preparing the items costs more than it saves.
constexpr int64_t kMinRowsToQuantize = 16;
// Items that are prepared at once when none are: a few dozen megabytes.
constexpr int64_t kTransientItems = 28 * kBlockItems;

bool finite(const float* x, int64_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

void empty_from(const TopKOutput& out, int64_t row, int64_t count) {
  for (int64_t i = count; i < out.ids.cols; ++i) {
    out.ids.row(row)[i] = -1;
    out.scores.row(row)[i] = -kInf;
  }
  out.count[row] = static_cast<int32_t>(count);
}

void check_values(const TopKInput& in, int threads) {
  topk_check::offsets(in);
  parallel_for(threads, in.queries.rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) topk_check::row_values(in, r);
  });
}

// One request: its rows in sets, fed with one shard after the other, then written.
class Request {
 public:
  Request(const TopKInput& in, const TopKOutput& out, int threads, const SearchOptions& options,
          SearchStats* stats)
      : in_(in),
        out_(out),
        threads_(threads),
        options_(options),
        stats_(stats),
        keep_(std::min(in.k, in.items.rows)),
        adjusted_(in, threads) {
    std::vector<ScanRow> rows;
    rows.reserve(static_cast<size_t>(in.queries.rows));
    for (int64_t r = 0; r < in.queries.rows; ++r) {
      const bool ok = finite(in.queries.row(r), in.queries.cols);
      out.status[r] = ok ? RowStatus::kOk : RowStatus::kNonFiniteQuery;
      if (ok) {
        rows.push_back({r, in.queries.row(r), mask_of(in, r), adjusted_.row(r)});
      } else {
        empty_from(out, r, 0);
      }
    }
    sets_ = route(std::move(rows), in.items.rows, in.items.cols, keep_, options, threads);
    for (const RowSet& set : sets_) count_rows(set);
  }

  bool empty() const { return sets_.empty() || keep_ == 0; }
  // Rows that go through the first pass.
  int64_t scanned_rows() const {
    int64_t rows = 0;
    for (const RowSet& set : sets_) {
      if (set.how == RowSet::How::kScan || set.how == RowSet::How::kPack) {
        rows += static_cast<int64_t>(set.rows.size());
      }
    }
    return rows;
  }

  void add(const Shard& shard) {
    const bool int8 = shard.tiles.tiles > 0 && options_.tier != Int8Tier::kNone;
    const bool exactly = !int8 && scanned_rows() < options_.min_float_rows;
    std::vector<std::span<ScanRow>> gathered;  // rows of one mask each
    for (RowSet& set : sets_) {
      switch (set.how) {
        case RowSet::How::kScan:
        case RowSet::How::kPack:
          if (exactly) {
            scan_exactly(shard, nullptr, set.rows, keep_, threads_);
            break;
          }
          scan_shard(shard, set.rows, keep_,
                     set.how == RowSet::How::kPack ? ScanWay::kPacked : ScanWay::kAll, options_,
                     threads_, stats_);
          break;
        case RowSet::How::kPick:
          if (int8) {
            scan_shard(shard, set.rows, keep_, ScanWay::kPicked, options_, threads_, stats_);
          } else {
            for (ScanRow& row : set.rows) gathered.emplace_back(&row, 1);
          }
          break;
        case RowSet::How::kGather:
          gathered.emplace_back(set.rows);
          break;
        case RowSet::How::kExact:
          scan_exactly(shard, nullptr, set.rows, keep_, threads_);
          break;
      }
    }
    gather(shard, gathered);
  }

  // Joins the adjusted items and writes each row, best first. `item_row` gives an item's vector.
  void write(const std::function<const float*(int64_t)>& item_row,
             const std::function<bool(int64_t)>& is_live) {
    for (RowSet& set : sets_) {
      parallel_for(threads_, static_cast<int64_t>(set.rows.size()), 16,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       write_row(set.rows[static_cast<size_t>(r)], item_row, is_live);
                     }
                   });
    }
  }

 private:
  // Threads take a mask each; of fewer masks than threads, they share each one's items.
  void gather(const Shard& shard, std::span<const std::span<ScanRow>> sets) {
    const auto count = static_cast<int64_t>(sets.size());
    const int within = count < threads_ ? threads_ : 1;
    parallel_for(within == 1 ? threads_ : 1, count, 1, [&](int64_t s, int64_t) {
      const std::vector<uint32_t> items = passing_items(shard, sets[s].front().mask);
      scan_exactly(shard, &items, sets[s], keep_, within);
    });
  }

  void count_rows(const RowSet& set) {
    if (stats_ == nullptr) return;
    const auto rows = static_cast<int64_t>(set.rows.size());
    if (set.how == RowSet::How::kScan) stats_->scanned_rows += rows;
    if (set.how == RowSet::How::kPack) stats_->packed_rows += rows;
    if (set.how == RowSet::How::kPick) stats_->picked_rows += rows;
    if (set.how == RowSet::How::kGather || set.how == RowSet::How::kExact) {
      stats_->exact_rows += rows;
    }
  }

  void write_row(ScanRow& row, const std::function<const float*(int64_t)>& item_row,
                 const std::function<bool(int64_t)>& is_live) {
    std::vector<uint64_t>& keys = row.keys;
    for (const Adjusted& a : row.adjusted.items()) {
      if (a.delta == -std::numeric_limits<double>::infinity() || !allowed(row.mask, a.id) ||
          !is_live(a.id)) {
        continue;
      }
      const float score = canonical_score(row.query, item_row(a.id), in_.items.cols);
      keys.push_back(topk_key::make(adjusted_score(score, a.delta), a.id));
    }
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(keys.size()), keep_);
    if (count < static_cast<int64_t>(keys.size())) {
      std::nth_element(keys.begin(), keys.begin() + count, keys.end(), std::greater<>());
    }
    std::sort(keys.begin(), keys.begin() + count, std::greater<>());
    for (int64_t i = 0; i < count; ++i) {
      out_.ids.row(row.row)[i] = topk_key::id(keys[static_cast<size_t>(i)]);
      out_.scores.row(row.row)[i] = topk_key::score(keys[static_cast<size_t>(i)]);
    }
    empty_from(out_, row.row, count);
  }

  const TopKInput& in_;
  const TopKOutput& out_;
  const int threads_;
  const SearchOptions& options_;
  SearchStats* const stats_;
  const int64_t keep_;
  const AdjustedRows adjusted_;
  std::vector<RowSet> sets_;
};

void write_empty(const TopKInput& in, const TopKOutput& out) {
  for (int64_t r = 0; r < in.queries.rows; ++r) {
    if (out.status[r] == RowStatus::kOk) empty_from(out, r, 0);
  }
}

}  // namespace

void search(std::span<const Shard> shards, const TopKInput& in, const TopKOutput& out, int threads,
            const SearchOptions& options, SearchStats* stats) {
  check_values(in, threads);
  Request request(in, out, threads, options, stats);
  if (request.empty()) return write_empty(in, out);
  for (const Shard& shard : shards) request.add(shard);
  const auto shard_of = [&](int64_t id) -> const Shard& {
    return *std::prev(std::upper_bound(
        shards.begin(), shards.end(), id,
        [](int64_t wanted, const Shard& shard) { return wanted < shard.first_id; }));
  };
  request.write(
      [&](int64_t id) {
        const Shard& shard = shard_of(id);
        return shard.rows.row(id - shard.first_id);
      },
      [&](int64_t id) { return allowed(shard_of(id).live, id); });
}

void topk(const TopKInput& in, const TopKOutput& out, int threads) {
  check_values(in, threads);
  const SearchOptions options;
  Request request(in, out, threads, options, nullptr);
  if (request.empty()) return write_empty(in, out);
  if (request.scanned_rows() < kMinRowsToQuantize || options.tier == Int8Tier::kNone) {
    request.add({0, in.items, {}, nullptr});
  } else {
    for (int64_t first = 0; first < in.items.rows; first += kTransientItems) {
      const MatrixView<const float> part(in.items.row(first),
                                         std::min(kTransientItems, in.items.rows - first),
                                         in.items.cols, in.items.ld);
      const QuantizedItems quantized(part, threads);
      request.add({first, part, quantized.tiles(), nullptr});
    }
  }
  request.write([&](int64_t id) { return in.items.row(id); }, [](int64_t) { return true; });
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
        out.row(r)[i] = id < 0 ? -kInf : canonical_score(queries.row(r), items.row(id), items.cols);
      }
    }
  });
}

}  // namespace hypertower::cpu
