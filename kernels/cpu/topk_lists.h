// The two pieces of bookkeeping of the CPU top-K: the best keys of a row so far, and the items of a
// row that the scan must leave alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "kernels/topk.h"
#include "kernels/topk_key.h"

namespace hypertower::cpu {

// The best `k` keys of those pushed, unordered, in at most twice that memory. Amortised O(1).
class BestKeys {
 public:
  explicit BestKeys(int64_t k) : k_(static_cast<size_t>(k)) {}

  // A score below the gate cannot enter.
  float gate() const { return gate_; }

  void push(uint64_t key) {
    if (key <= worst_) return;
    keys_.push_back(key);
    if (keys_.size() >= 2 * k_) shrink();
  }

  const std::vector<uint64_t>& keys() const { return keys_; }

 private:
  void shrink() {
    std::nth_element(keys_.begin(), keys_.begin() + (k_ - 1), keys_.end(), std::greater<>());
    keys_.resize(k_);
    worst_ = keys_.back();
    gate_ = topk_key::score(worst_);
  }

  size_t k_;
  std::vector<uint64_t> keys_;
  uint64_t worst_ = topk_key::kNone;  // k keys better than or equal to this one are known
  float gate_ = -std::numeric_limits<float>::infinity();
};

struct Adjusted {
  int64_t id;
  int64_t place;  // in the lists of the row
  double delta;   // -inf excludes
};

// Per row the excluded and adjusted items, ascending by id, each once.
class AdjustedRows {
 public:
  AdjustedRows(const TopKInput& in, int threads);

  std::span<const Adjusted> row(int64_t r) const {
    return {values_.data() + begin_[r], static_cast<size_t>(count_[r])};
  }

  static bool contains(std::span<const Adjusted> row, int64_t id) {
    const auto at = std::lower_bound(row.begin(), row.end(), id,
                                     [](const Adjusted& a, int64_t b) { return a.id < b; });
    return at != row.end() && at->id == id;
  }

 private:
  void build(const TopKInput& in, int64_t r);

  std::vector<Adjusted> values_;
  std::vector<int64_t> begin_;  // [B + 1]
  std::vector<int64_t> count_;  // [B]
};

}  // namespace hypertower::cpu
