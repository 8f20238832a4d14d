#include "kernels/cpu/topk_scan.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "kernels/cpu/canonical.h"
#include "kernels/cpu/topk_worker.h"
#include "kernels/parallel.h"
#include "kernels/topk_key.h"

namespace hypertower::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr int64_t kRowGrain = 8;
constexpr int64_t kMinTilesPerWorker = 64;

// The tiles that have been seen when a guess is made, of 64.
constexpr int64_t kSample = 1, kLargerSample = 8, kWhole = 64;

int64_t careful_rank(int64_t keep, double share) {
  const double expected = static_cast<double>(keep) * share;
  const double rank = std::ceil(expected + 4.0 * std::sqrt(expected) + 5.0);
  return std::min(keep, static_cast<int64_t>(rank));
}

class Scan {
 public:
  Scan(const ScanPlan& plan, std::span<ScanRow> rows, int threads)
      : plan_(plan), rows_(rows), threads_(threads), guesses_(rows.size(), -kInf) {
    const int64_t most = std::max<int64_t>(1, plan.tiles() / kMinTilesPerWorker);
    const auto workers = std::min<int64_t>(threads, most);
    for (int64_t w = 0; w < workers; ++w) workers_.emplace_back(plan);
    for (int64_t r = 0; r < count(); ++r) {
      for (ScanWorker& w : workers_) w.raise_gate(r, plan.groups.units(r).gate(rows[r].lower));
    }
  }

  void run(bool guess) {
    if (!guess) return scan(0, plan_.parts(), 0);
    int64_t seen = 0;
    for (const int64_t part : {kSample, kLargerSample}) {
      const int64_t end = plan_.tiles() * part / kWhole;
      const double share = static_cast<double>(end) / static_cast<double>(plan_.tiles());
      const int64_t rank = plan_.options.guess_rank > 0
                               ? std::min(plan_.options.guess_rank, plan_.keep)
                               : careful_rank(plan_.keep, share);
      scan(seen, end, rank);
      guess_gates(rank);
      seen = end;
    }
    scan(seen, plan_.tiles(), 0);
  }

  // Moves what was found into the rows. Returns the rows whose guess was too high; they are left as
  // they were but for a proven gate.
  std::vector<int64_t> finish(SearchStats* stats) {
    std::vector<char> failed(rows_.size(), 0);
    std::vector<int64_t> scored(rows_.size(), 0);
    parallel_for(threads_, count(), kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) failed[r] = finish_row(r, &scored[r]) ? 0 : 1;
    });
    std::vector<int64_t> again;
    for (int64_t r = 0; r < count(); ++r) {
      if (failed[r] != 0) again.push_back(r);
      if (stats != nullptr) stats->exact_scores += scored[r];
    }
    if (stats != nullptr) {
      for (const ScanWorker& w : workers_) {
        stats->candidates += w.pushed();
        stats->exact_scores += w.exact_scores();
      }
      stats->repairs += static_cast<int64_t>(again.size());
    }
    return again;
  }

 private:
  int64_t count() const { return static_cast<int64_t>(rows_.size()); }

  void scan(int64_t begin, int64_t end, int64_t rank) {
    const auto workers = static_cast<int64_t>(workers_.size());
    const int64_t part = (end - begin + workers - 1) / workers;
    parallel_for(threads_, workers, 1, [&](int64_t w, int64_t) {
      workers_[w].scan(std::min(end, begin + w * part), std::min(end, begin + (w + 1) * part),
                       rank);
    });
  }

  // The rank-th best of what all workers have seen becomes every worker's gate.
  void guess_gates(int64_t rank) {
    parallel_for(threads_, count(), kRowGrain, [&](int64_t begin, int64_t end) {
      std::vector<float> scores;
      for (int64_t r = begin; r < end; ++r) {
        scores.clear();
        for (ScanWorker& w : workers_) {
          guesses_[r] = std::max(guesses_[r], w.gate(r));
          for (const Candidate& c : w.found(r).list()) scores.push_back(c.approx);
        }
        if (static_cast<int64_t>(scores.size()) >= rank) {
          std::nth_element(scores.begin(), scores.begin() + rank - 1, scores.end(),
                           std::greater<>());
          guesses_[r] = std::max(guesses_[r], scores[rank - 1]);
        }
        for (ScanWorker& w : workers_) w.raise_gate(r, guesses_[r]);
      }
    });
  }

  bool finish_row(int64_t r, int64_t* scored) {
    ScanRow& row = rows_[r];
    Candidates all;
    for (ScanWorker& w : workers_) {
      const auto& list = w.found(r).list();
      all.list().insert(all.list().end(), list.begin(), list.end());
    }
    const RowUnits& units = plan_.groups.units(r);
    const float lower = std::max(row.lower, plan_.proven_score(r, all, scored));
    all.drop_below(units.gate(lower));
    *scored += plan_.score_exactly(r, all.list(), all.size());
    for (const Candidate& c : all.list()) {
      if (c.exact >= lower) {
        row.keys.push_back(topk_key::make(c.exact, plan_.shard.first_id + c.item));
      }
    }
    const auto keep = static_cast<size_t>(plan_.keep);
    if (row.keys.size() >= keep) {
      std::nth_element(row.keys.begin(), row.keys.begin() + (plan_.keep - 1), row.keys.end(),
                       std::greater<>());
      row.lower = topk_key::score(row.keys[keep - 1]);
    }
    // Nothing that was dropped can reach a score that K items have.
    const float reached = row.keys.size() >= keep ? row.lower : -kInf;
    if (guesses_[r] > -kInf && units.gate(reached) < guesses_[r]) {
      std::erase_if(row.keys, [&](uint64_t key) {
        return topk_key::id(key) >= plan_.shard.first_id;  // they will be found again
      });
      return false;
    }
    if (row.keys.size() > keep) row.keys.resize(keep);
    return true;
  }

  const ScanPlan& plan_;
  const std::span<ScanRow> rows_;
  const int threads_;
  std::vector<float> guesses_;
  std::vector<ScanWorker> workers_;
};

// One round over all tiles. Returns the rows that need another, without a guess.
std::vector<int64_t> scan_rows(const Shard& shard, std::span<ScanRow> rows, int64_t keep,
                               ScanWay way, bool guess, const SearchOptions& options, int threads,
                               SearchStats* stats) {
  const int64_t dim = shard.rows.cols;
  const bool int8 = shard.tiles.tiles > 0 && options.tier != Int8Tier::kNone;
  const RowGroups groups(rows, dim, int8 ? &shard.tiles : nullptr);
  std::vector<double> wide(rows.size() * static_cast<size_t>(canonical_stride(dim)));
  for (size_t r = 0; r < rows.size(); ++r) {
    widen_query(rows[r].query, dim, wide.data() + static_cast<int64_t>(r) * canonical_stride(dim));
  }
  std::optional<PickedItems> picked;
  if (way == ScanWay::kPicked) picked.emplace(shard, rows, threads);
  const ScanPlan plan{
      shard, rows, groups, wide.data(), keep, int8, way, picked ? &*picked : nullptr, options};
  Scan scan(plan, rows, threads);
  scan.run(guess);
  return scan.finish(stats);
}

}  // namespace

void scan_shard(const Shard& shard, std::span<ScanRow> rows, int64_t keep, ScanWay way,
                const SearchOptions& options, int threads, SearchStats* stats) {
  if (rows.empty() || shard.rows.rows == 0) return;
  if (way == ScanWay::kPicked) {
    const auto some = static_cast<size_t>(PickedItems::rows_at_once(shard, rows));
    if (some < rows.size()) {
      scan_shard(shard, rows.first(some), keep, way, options, threads, stats);
      scan_shard(shard, rows.subspan(some), keep, way, options, threads, stats);
      return;
    }
  }
  // Threads share the tiles; of few tiles, each takes some of the rows.
  const auto num_rows = static_cast<int64_t>(rows.size());
  if (threads > 1 && num_rows > kMaxGroup &&
      tiles_of(shard.rows.rows) < threads * kMinTilesPerWorker) {
    const int64_t groups = (num_rows + kMaxGroup - 1) / kMaxGroup;
    const int64_t part = (groups + threads - 1) / threads * kMaxGroup;
    std::vector<SearchStats> of_part(static_cast<size_t>((num_rows + part - 1) / part));
    parallel_for(threads, static_cast<int64_t>(of_part.size()), 1, [&](int64_t p, int64_t) {
      const int64_t first = p * part, count = std::min(part, num_rows - first);
      scan_shard(shard, rows.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), keep,
                 way, options, 1, &of_part[static_cast<size_t>(p)]);
    });
    for (const SearchStats& s : of_part) {
      if (stats != nullptr) stats->add(s);
    }
    return;
  }
  // Where earlier shards are as large, they have set gates that no guess would beat. Of few items,
  // a guess would save little.
  const bool guess = tiles_of(shard.rows.rows) >= options.min_guess_tiles &&
                     shard.first_id < shard.rows.rows && way != ScanWay::kPicked;
  const std::vector<int64_t> failed =
      scan_rows(shard, rows, keep, way, guess, options, threads, stats);
  if (failed.empty()) return;
  std::vector<ScanRow> again;
  for (const int64_t r : failed) again.push_back(std::move(rows[r]));
  scan_rows(shard, again, keep, way, false, options, threads, stats);
  for (size_t i = 0; i < failed.size(); ++i) rows[failed[i]] = std::move(again[i]);
}

}  // namespace hypertower::cpu
