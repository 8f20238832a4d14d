// Finds the columns of the softmax loss that are masked for a row, by looking up the row's keys
// (item of its target, user, excluded items) in a hash index over some columns, instead of
// comparing each column with each key.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/softmax_loss.h"

namespace hypertower::cpu {

// Key -> positions that carry it. Negative keys are left out if `skip_negative`.
class KeyIndex {
 public:
  void build(const int64_t* keys, int64_t count, bool skip_negative);

  template <class Visit>
  void for_each(int64_t key, const Visit& visit) const {
    if (first_.empty()) return;
    for (int32_t at = first_[bucket(key)]; at >= 0; at = next_[at]) {
      if (keys_[at] == key) visit(at);
    }
  }

 private:
  size_t bucket(int64_t key) const {
    return static_cast<uint64_t>(key) * 0x9E3779B97F4A7C15ULL >> shift_;
  }

  const int64_t* keys_ = nullptr;
  int shift_ = 0;
  std::vector<int32_t> first_;  // bucket -> chain
  std::vector<int32_t> next_;
};

class ColumnMask {
 public:
  explicit ColumnMask(const SoftmaxLossInput& in) : in_(in) {}

  // Looks at columns [begin, begin + count) from now on.
  void select(int64_t begin, int64_t count);

  // visit(column - begin) for each selected column masked for `row`, maybe more than once, in no
  // special order; never its target.
  template <class Visit>
  void for_each(int64_t row, const Visit& visit) const {
    const int64_t target = in_.target[row] - begin_;
    const auto unless_target = [&](int64_t c) {
      if (c != target) visit(c);
    };
    if (in_.column_item != nullptr) {
      items_.for_each(in_.column_item[in_.target[row]], unless_target);
    }
    if (in_.column_user != nullptr) {
      users_.for_each(in_.row_user[row], unless_target);
    }
    if (in_.row_exclude.offsets != nullptr) {
      for (int64_t i = in_.row_exclude.offsets[row]; i < in_.row_exclude.offsets[row + 1]; ++i) {
        items_.for_each(in_.row_exclude.values[i], unless_target);
      }
    }
  }

 private:
  const SoftmaxLossInput& in_;
  int64_t begin_ = 0;
  KeyIndex items_;
  KeyIndex users_;
};

}  // namespace hypertower::cpu
