// Ranks -> recall, ndcg, mrr and hit rate at several list lengths, for events with one right item
// each. With one right item recall@k equals the hit rate; both names are given because people look
// for both. Not thread-safe.
//   recall@k = hit_rate@k = [rank <= k]     ndcg@k = [rank <= k] / log2(rank + 1)
//   mrr@k = [rank <= k] / rank              averages over events
//   coverage@k = share of the catalogue that appears in at least one list of length k
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

namespace hypertower {

class RankMetrics {
 public:
  // `lengths` ascending.
  RankMetrics(std::vector<int64_t> lengths, int64_t catalogue_size);

  // `rank` from 1; a fraction for ties (the mean rank of those that tie); 0 = not in the list at
  // all. `list`: the items shown, best first, for coverage.
  void add(double rank, std::span<const int64_t> list);

  int64_t events() const { return events_; }
  // {"recall@10": ..., "ndcg@10": ..., "mrr@10": ..., "hit_rate@10": ..., "coverage@10": ...};
  // zeros without events.
  nlohmann::json to_json() const;

 private:
  std::vector<int64_t> lengths_;
  int64_t events_ = 0;
  std::vector<double> hits_, gains_, reciprocals_;  // per length
  std::vector<int32_t> best_place_;  // per item: its best place in any list, 0 = none
};

// Rank of `target` among the candidates by score, ties at their mean rank:
// 1 + #(greater) + (#(equal) - 1) / 2, `excluded` (ascending) left out. 0 when the target itself is
// excluded. `top` receives the best `length` candidates by (score descending, item ascending).
double rank_of(std::span<const float> scores, int64_t target, std::span<const int64_t> excluded,
               int64_t length, std::vector<int64_t>& top);

}  // namespace hypertower
