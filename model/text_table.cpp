#include "model/text_table.h"

#include <algorithm>
#include <array>
#include <bit>

namespace hypertower {

uint64_t stable_hash(std::string_view s) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : s) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211ULL;
  }
  return hash;
}

TextTable::TextTable(std::span<const std::string> texts) {
  const size_t slots = std::bit_ceil(2 * texts.size() + 2);
  slots_.assign(slots, -1);
  shift_ = 64 - std::countr_zero(slots);
  constexpr size_t kAtOnce = 32;  // so many slots travel from memory side by side
  for (size_t begin = 0; begin < texts.size(); begin += kAtOnce) {
    const size_t end = std::min(begin + kAtOnce, texts.size());
    std::array<size_t, kAtOnce> first;
    for (size_t row = begin; row < end; ++row) {
      first[row - begin] = slot_of(texts[row]);
      __builtin_prefetch(&slots_[first[row - begin]], 1);
    }
    for (size_t row = begin; row < end; ++row) {
      size_t slot = first[row - begin];
      while (slots_[slot] >= 0 && texts[static_cast<size_t>(slots_[slot])] != texts[row]) {
        slot = (slot + 1) & (slots - 1);
      }
      if (slots_[slot] < 0) {
        slots_[slot] = static_cast<int64_t>(row);
      } else if (first_duplicate_ < 0) {
        first_duplicate_ = static_cast<int64_t>(row);
      }
    }
  }
}

int64_t TextTable::find(std::string_view text, std::span<const std::string> texts) const {
  if (slots_.empty()) return -1;
  size_t slot = slot_of(text);
  while (slots_[slot] >= 0 && texts[static_cast<size_t>(slots_[slot])] != text) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slots_[slot];
}

// FNV leaves its low bits the weakest, so the slot comes from the high bits of one more product.
size_t TextTable::slot_of(std::string_view text) const {
  return static_cast<size_t>((stable_hash(text) * 0x9E3779B97F4A7C15ULL) >> shift_);
}

}  // namespace hypertower
