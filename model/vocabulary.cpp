#include "model/vocabulary.h"

#include <utility>

#include "kernels/error.h"

namespace hypertower {

Vocabulary::Vocabulary(std::vector<std::string> values, int64_t oov_rows)
    : values_(std::move(values)), oov_rows_(oov_rows), table_(values_) {
  if (const int64_t row = table_.first_duplicate(); row >= 0) {
    throw Error(ErrorKind::kModel, "a vocabulary must hold distinct values, but row " +
                                       std::to_string(row) + " repeats '" + value(row) + "'");
  }
  if (oov_rows < 0) {
    throw Error(ErrorKind::kModel,
                "a vocabulary has 0 or more hashed rows, got " + std::to_string(oov_rows));
  }
}

int64_t Vocabulary::known(std::string_view value) const {
  return table_.find(value, values_);
}

int64_t Vocabulary::row(std::string_view value) const {
  const int64_t row = known(value);
  if (row >= 0 || oov_rows_ == 0) return row;
  return size() + static_cast<int64_t>(stable_hash(value) % static_cast<uint64_t>(oov_rows_));
}

}  // namespace hypertower
