// Text -> place in a list that somebody else owns: an open-addressing hash table of row numbers, so
// that millions of ids are stored once. Copying and moving the list's owner keeps the table valid.
// Immutable after construction; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hypertower {

class TextTable {
 public:
  TextTable() = default;
  explicit TextTable(std::span<const std::string> texts);

  // Row of `text` or -1. `texts` must be the list that the table was built from.
  int64_t find(std::string_view text, std::span<const std::string> texts) const;
  // First row whose text an earlier row holds already, -1 when all are distinct.
  int64_t first_duplicate() const { return first_duplicate_; }

 private:
  size_t slot_of(std::string_view text) const;

  std::vector<int64_t> slots_;  // row or -1; a power of two, at most half full
  int shift_ = 63;              // 64 - log2(slots)
  int64_t first_duplicate_ = -1;
};

// FNV-1a 64: the same on every machine and version (Fowler, Noll, Vo).
uint64_t stable_hash(std::string_view s);

}  // namespace hypertower
