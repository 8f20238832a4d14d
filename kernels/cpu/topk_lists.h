// The two pieces of bookkeeping of the CPU top-K: the best keys of a row so far, and the items of a
// row that the scan must leave alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
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
  double delta;  // -inf excludes
};

// The excluded and adjusted items of one row that its mask lets through, each once, with a table to
// find them by id: most items that a scan asks about are not among them, and one look at an empty
// place says so.
class AdjustedRow {
 public:
  AdjustedRow() = default;
  AdjustedRow(std::span<const Adjusted> items, std::span<const uint32_t> places)
      : items_(items), places_(places) {}

  std::span<const Adjusted> items() const { return items_; }

  bool contains(int64_t id) const {
    if (items_.empty()) return false;
    for (size_t at = home(id, places_.size());; at = (at + 1) & (places_.size() - 1)) {
      if (places_[at] == kEmpty) return false;
      if (items_[places_[at]].id == id) return true;
    }
  }

  // Asks memory for what `contains` reads first.
  void fetch(int64_t id) const {
    if (!places_.empty()) __builtin_prefetch(places_.data() + home(id, places_.size()));
  }

  static constexpr uint32_t kEmpty = UINT32_MAX;
  // Fibonacci hashing (Knuth, vol. 3, 6.4). `places` is a power of two.
  static size_t home(int64_t id, size_t places) {
    const auto hash = static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15U;
    return static_cast<size_t>(hash >> 32) & (places - 1);
  }

 private:
  std::span<const Adjusted> items_;
  std::span<const uint32_t> places_;  // positions in items_, open addressing
};

class AdjustedRows {
 public:
  AdjustedRows(const TopKInput& in, int threads);

  // Valid as long as this object.
  AdjustedRow row(int64_t r) const {
    return {{items_.data() + begin_[r], static_cast<size_t>(count_[r])},
            {places_.get() + first_place_[r], num_places_[r]}};
  }

 private:
  void build(const TopKInput& in, int64_t r);

  std::vector<Adjusted> items_;
  std::unique_ptr<uint32_t[]> places_;
  std::vector<int64_t> begin_;        // [B + 1], of the row's items
  std::vector<int64_t> first_place_;  // [B + 1], of the places that the row may need
  std::vector<size_t> num_places_;    // [B], those that it uses
  std::vector<int64_t> count_;        // [B], repeats are one
};

}  // namespace hypertower::cpu
