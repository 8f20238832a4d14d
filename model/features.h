// Records -> Batch: the one place where values become numbers, used when training and when serving.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/schema.h"
#include "model/value.h"
#include "model/vocabulary.h"

namespace hypertower {

// One feature of R records. Id features (category, categories): jagged `values` with `offsets`
// [R + 1], a missing value is an empty bag. Number: `dense` [R], NaN = missing. Vector: `dense`
// [R, length], missing = zeros. Columns of the other kinds leave a member as it is constructed.
struct FeatureColumn {
  std::vector<int64_t> values;
  std::vector<int64_t> offsets{0};
  std::vector<float> dense;
};

// The features of one group, in schema order.
struct Batch {
  int64_t rows = 0;
  std::vector<FeatureColumn> columns;
};

// The texts of a category or categories value: a list's elements, a text split at the separator
// (spaces around the pieces and empty pieces dropped), or the one value. Missing or "" gives none.
// Throws as FeatureSpace::append.
std::vector<std::string> category_texts(const Feature& feature, const Value& value);

// What fitting learned about one feature.
struct FittedFeature {
  Feature feature;
  Vocabulary vocabulary;     // id features
  std::vector<float> edges;  // number: ascending, distinct, >= 2 entries
  // Width of the encoded value that the tower's linear layer or table sees:
  // id features vocabulary.rows(), number edges.size() - 1, vector length.
  int64_t width() const;
};

// Immutable once it is shared; const methods are thread-safe.
class FeatureSpace {
 public:
  FeatureSpace() = default;
  // `fitted` in the order of schema.features. Error(kModel): another order, edges that do not
  // ascend.
  FeatureSpace(Schema schema, std::vector<FittedFeature> fitted);

  const Schema& schema() const { return schema_; }
  void set_history_length(int64_t length) { schema_.history_length = length; }
  std::span<const FittedFeature> group(Group g) const;

  // Appends one value of feature `f` to `column`. Throws Error(kSchema) with the field's path for a
  // value of the wrong type ("context.hour: expected a category, got a list of numbers"), and
  // Error(kNumeric) for NaN or infinity given as a number by a caller.
  static void append(const FittedFeature& f, const Value& value, FeatureColumn& column);

  // Encodes records of one group (a null record has no fields). A field that comes twice counts as
  // given last. Unknown fields throw Error(kSchema) naming the nearest one.
  // `times` (seconds; one per record, may be empty) feeds features with from_time where the record
  // does not give them; a field given as missing stays missing.
  Batch encode(Group g, std::span<const Record* const> records,
               std::span<const std::optional<double>> times) const;

 private:
  Schema schema_;
  std::vector<FittedFeature> fitted_;  // schema order
};

// Collects values of the training part and derives vocabularies and quantile edges: the quantiles
// 0, 1/bins, ... 1 of all values, or of a fixed pseudo-random sample of 2^18 of them when there are
// more, so memory is bounded. Deterministic in the order of `add`. Not thread-safe.
class FeatureFitter {
 public:
  explicit FeatureFitter(const Schema& schema);
  ~FeatureFitter();
  FeatureFitter(FeatureFitter&&) noexcept;
  FeatureFitter& operator=(FeatureFitter&&) noexcept;
  // `index` is the place in schema.features. Wrong types throw as in FeatureSpace::append.
  void add(size_t index, const Value& value);
  FeatureSpace finish() const;

 private:
  struct Column;
  Schema schema_;
  std::vector<Column> columns_;
};

}  // namespace hypertower
