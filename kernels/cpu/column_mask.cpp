#include "kernels/cpu/column_mask.h"

#include <bit>

namespace hypertower::cpu {

void KeyIndex::build(const int64_t* keys, int64_t count, bool skip_negative) {
  const int bits = std::bit_width(static_cast<uint64_t>(count)) + 1;
  keys_ = keys;
  shift_ = 64 - bits;
  first_.assign(size_t{1} << bits, -1);
  next_.resize(count);
  for (int64_t i = 0; i < count; ++i) {
    if (skip_negative && keys[i] < 0) continue;
    int32_t& first = first_[bucket(keys[i])];
    next_[i] = first;
    first = static_cast<int32_t>(i);
  }
}

void ColumnMask::select(int64_t begin, int64_t count) {
  begin_ = begin;
  if (in_.column_item != nullptr) items_.build(in_.column_item + begin, count, false);
  if (in_.column_user != nullptr) users_.build(in_.column_user + begin, count, true);
}

}  // namespace hypertower::cpu
