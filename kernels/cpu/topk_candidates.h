// What a scan has found for one row: items that may belong to the best `keep`, with what the first
// pass knows of them. All scores but `exact` are in the row's units (divided by its query's scale).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace hypertower::cpu {

struct Candidate {
  float upper;   // the true score is below
  float approx;  // the first pass's score
  uint32_t item;
  float exact;  // canonical score; NaN: not computed yet
};

class Candidates {
 public:
  void push(float upper, float approx, uint32_t item, float exact) {
    list_.push_back({upper, approx, item, exact});
  }
  bool full() const { return list_.size() >= limit_; }
  size_t size() const { return list_.size(); }
  // Room for as much again, and for `least`.
  void make_room(size_t least) { limit_ = std::max(2 * list_.size(), list_.size() + least); }

  void drop_below(float gate) {
    std::erase_if(list_, [&](const Candidate& c) { return c.upper < gate; });
  }

  // The rank-th best first-pass score (1 is the best), or -infinity where there are fewer. Puts the
  // rank best ones first.
  float nth_approx(size_t rank) {
    if (list_.size() < rank) return -std::numeric_limits<float>::infinity();
    const auto at = list_.begin() + static_cast<int64_t>(rank) - 1;
    std::nth_element(list_.begin(), at, list_.end(),
                     [](const Candidate& a, const Candidate& b) { return a.approx > b.approx; });
    return at->approx;
  }

  // Keeps the `count` first in the order of results. REQUIRES: all exact scores are known.
  void keep_best(size_t count) {
    if (list_.size() <= count) return;
    std::nth_element(list_.begin(), list_.begin() + static_cast<int64_t>(count) - 1, list_.end(),
                     [](const Candidate& a, const Candidate& b) {
                       return a.exact != b.exact ? a.exact > b.exact : a.item < b.item;
                     });
    list_.resize(count);
  }

  std::vector<Candidate>& list() { return list_; }
  const std::vector<Candidate>& list() const { return list_; }

 private:
  std::vector<Candidate> list_;
  size_t limit_ = 0;  // 0: room has not been made yet
};

}  // namespace hypertower::cpu
