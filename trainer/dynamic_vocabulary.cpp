#include "trainer/dynamic_vocabulary.h"

#include <algorithm>
#include <numeric>

namespace hypertower {

DynamicVocabulary::DynamicVocabulary(const FittedFeature& feature)
    : dictionary_(feature.vocabulary),
      options_{feature.feature.dynamic_rows, feature.feature.min_count, feature.feature.evict},
      ids_(options_) {
  const auto modulus = static_cast<uint64_t>(dictionary_.oov_rows());
  for (const std::string& value : dictionary_.values()) {
    hashed_.push_back(static_cast<int64_t>(stable_hash(value) % modulus));
  }
}

int64_t DynamicVocabulary::hashed_row(int64_t number) const {
  const int64_t beyond = number - dictionary_.size();
  return beyond >= 0 ? beyond : hashed_[static_cast<size_t>(number)];
}

// Unknown values have the numbers of the dictionary's hashed rows and never get rows of their own.
std::vector<int64_t> DynamicVocabulary::in_dictionary(std::span<const int64_t> numbers) const {
  std::vector<int64_t> out;
  out.reserve(numbers.size());
  for (const int64_t number : numbers) {
    if (number < dictionary_.size()) out.push_back(number);
  }
  return out;
}

std::vector<int64_t> DynamicVocabulary::all_rows(std::span<const int64_t> numbers,
                                                 const std::vector<int64_t>& found) const {
  std::vector<int64_t> out;
  out.reserve(numbers.size());
  auto next = found.begin();
  for (const int64_t number : numbers) {
    const int64_t row = number < dictionary_.size() ? *next++ : -1;
    out.push_back(row >= 0 ? row : ids_.rows() + hashed_row(number));
  }
  return out;
}

std::vector<int64_t> DynamicVocabulary::find(std::span<const int64_t> numbers, int threads) const {
  const std::vector<int64_t> ids = in_dictionary(numbers);
  std::vector<int64_t> rows(ids.size());
  ids_.find(ids, rows.data(), threads);
  return all_rows(numbers, rows);
}

std::vector<int64_t> DynamicVocabulary::assign(std::span<const int64_t> numbers,
                                               std::vector<IdTableChange>* changes, int threads) {
  const std::vector<int64_t> ids = in_dictionary(numbers);
  std::vector<int64_t> rows(ids.size());
  const IdTableReport report = ids_.assign(ids, rows.data(), changes, threads);
  sums_.admitted += report.admitted;
  sums_.evicted += report.evicted;
  sums_.failed += report.failed;
  return all_rows(numbers, rows);
}

std::vector<int64_t> DynamicVocabulary::known() const {
  return ids_.save().ids;
}

std::vector<int64_t> DynamicVocabulary::exported_order() const {
  std::vector<int64_t> rows = ids_.save().rows;
  const size_t values = rows.size();
  rows.resize(values + static_cast<size_t>(dictionary_.oov_rows()));
  std::iota(rows.begin() + static_cast<int64_t>(values), rows.end(), ids_.rows());
  return rows;
}

std::vector<int64_t> DynamicVocabulary::exported_numbers(std::span<const int64_t> numbers) const {
  const std::vector<int64_t> known = this->known();
  std::vector<int64_t> out;
  out.reserve(numbers.size());
  for (const int64_t number : numbers) {
    const auto at = std::lower_bound(known.begin(), known.end(), number);
    out.push_back(at != known.end() && *at == number
                      ? at - known.begin()
                      : static_cast<int64_t>(known.size()) + hashed_row(number));
  }
  return out;
}

nlohmann::json DynamicVocabulary::report() const {
  return {{"rows", ids_.rows()},
          {"values", ids_.size()},
          {"admitted", sums_.admitted},
          {"evicted", sums_.evicted},
          {"failed", sums_.failed}};
}

FittedFeature exported(const FittedFeature& feature, const DynamicVocabulary& vocabulary) {
  std::vector<std::string> values;
  for (const int64_t number : vocabulary.known()) {
    values.push_back(feature.vocabulary.value(number));
  }
  return {feature.feature, Vocabulary(std::move(values), feature.vocabulary.oov_rows()), {}};
}

}  // namespace hypertower
