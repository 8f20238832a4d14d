// Rows of a table of fixed size for the values of a feature with vocabulary = "dynamic": values get
// rows as they come in training, as kernels/id_table.h says; the others share hashed rows behind
// them, by the rule of model/vocabulary.h. Values go by their numbers in the dictionary of all
// values that fitting found (FittedFeature::vocabulary), whose own hashed rows unknown values have.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "kernels/id_table.h"
#include "model/features.h"

namespace hypertower {

class DynamicVocabulary {
 public:
  // Keeps a reference to the dictionary, which must outlive it.
  explicit DynamicVocabulary(const FittedFeature& feature);

  int64_t table_rows() const { return ids_.rows() + dictionary_.oov_rows(); }

  // Rows of values by number, for an evaluation.
  std::vector<int64_t> find(std::span<const int64_t> numbers, int threads) const;
  // The same in training, where values get rows. Appends to `changes` the rows with new owners,
  // whose weights and optimizer state must begin anew before they are read.
  std::vector<int64_t> assign(std::span<const int64_t> numbers, std::vector<IdTableChange>* changes,
                              int threads);
  // The gradients of earlier batches have been applied: their rows may be given away.
  void begin_step() { ids_.begin_step(); }

  // Numbers of the values that have rows, ascending: most frequent first. Serving knows them as
  // 0, 1, ... and behind them the hashed rows.
  std::vector<int64_t> known() const;
  // Rows of the table in that order, for the exported weights.
  std::vector<int64_t> exported_order() const;
  // Numbers as serving will count them.
  std::vector<int64_t> exported_numbers(std::span<const int64_t> numbers) const;
  // {"rows", "values": that have rows, "admitted", "evicted", "failed": for want of a row}, the
  // last three as sums over batches.
  nlohmann::json report() const;

  IdTable::Saved save() const { return ids_.save(); }
  void restore(const IdTable::Saved& saved) { ids_ = IdTable(options_, saved); }

 private:
  int64_t hashed_row(int64_t number) const;  // from 0
  std::vector<int64_t> in_dictionary(std::span<const int64_t> numbers) const;
  std::vector<int64_t> all_rows(std::span<const int64_t> numbers,
                                const std::vector<int64_t>& found) const;

  const Vocabulary& dictionary_;
  IdTableOptions options_;
  IdTable ids_;
  std::vector<int64_t> hashed_;  // of each value of the dictionary
  IdTableReport sums_;
};

// The same feature as serving sees it: the values that have rows, in the order of `known`.
FittedFeature exported(const FittedFeature& feature, const DynamicVocabulary& vocabulary);

}  // namespace hypertower
