// Text -> table row. Known values have rows 0..size-1 (most frequent first, ties by text); unknown
// values share `oov_rows` hashed rows after them (size + stable_hash(value) mod oov_rows).
// Immutable after construction; thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/text_table.h"

namespace hypertower {

class Vocabulary {
 public:
  Vocabulary() = default;
  // oov_rows = 0: unknown values have no row (-1). Error(kModel): a value that comes twice.
  Vocabulary(std::vector<std::string> values, int64_t oov_rows);

  int64_t row(std::string_view value) const;    // known or hashed row; -1 when there is none
  int64_t known(std::string_view value) const;  // known row or -1
  int64_t size() const { return static_cast<int64_t>(values_.size()); }
  int64_t rows() const { return size() + oov_rows_; }
  int64_t oov_rows() const { return oov_rows_; }
  const std::string& value(int64_t row) const { return values_[static_cast<size_t>(row)]; }
  const std::vector<std::string>& values() const { return values_; }

 private:
  std::vector<std::string> values_;
  int64_t oov_rows_ = 0;
  TextTable table_;
};

}  // namespace hypertower
