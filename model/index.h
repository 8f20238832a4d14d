// The catalogue at serving time: ids, vectors, attributes; filters compiled to bit masks; exact
// top-K. Immutable after construction; thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kernels/tensor.h"
#include "kernels/topk_index.h"
#include "model/index_file.h"
#include "model/schema.h"
#include "model/shared_array.h"
#include "model/text_table.h"
#include "model/value.h"
#include "model/vocabulary.h"

namespace hypertower {

// An attribute that `where` may name. Categories: jagged codes into `values`. Numbers: NaN =
// missing (a missing number passes no range).
struct Attribute {
  std::string name;
  bool is_number = false;
  Vocabulary values;             // categories, oov_rows = 0
  std::vector<int32_t> codes;    // jagged
  std::vector<int64_t> offsets;  // [N + 1]
  std::vector<double> numbers;   // [N]
};

// Collects the values of one item feature in catalogue order. Vectors have no attribute.
// Values are told apart as features tell them apart (category_texts). Not thread-safe.
class AttributeBuilder {
 public:
  // REQUIRES: kind category, categories or number.
  explicit AttributeBuilder(const Feature& feature);
  void add(const Value& value);
  Attribute finish();

 private:
  Feature feature_;
  Attribute attribute_;
  std::vector<std::string> texts_;  // distinct, in order of first use
  std::unordered_map<std::string, int32_t> codes_;
};

// Items whose order is that of item.id.weight: row i of the table belongs to row i here. Items that
// training did not see come after them.
struct Catalogue {
  std::vector<std::string> ids;  // [N], distinct
  SharedArray<float> vectors;    // [N, dim]
  int64_t dim = 0;
  std::vector<Attribute> attributes;
};

// Which items pass a filter; bit i of word i / 64.
struct Mask {
  std::vector<uint64_t> words;
  int64_t eligible = 0;
};

struct Query {
  std::span<const float> vector;                  // [dim]
  std::shared_ptr<const Mask> mask;               // null = everything
  std::vector<int64_t> exclude;                   // rows
  std::vector<std::pair<int64_t, float>> adjust;  // rows and deltas
};

struct Hit {
  int64_t row = -1;
  float score = 0.0F;
};

class ItemIndex {
 public:
  // `tiles`: of these vectors, from a file; without them the index is prepared here, on all cores.
  // Errors (kModel): duplicate ids, sizes that do not fit, non-finite vectors.
  explicit ItemIndex(Catalogue catalogue, const MappedTiles& tiles = {});

  int64_t size() const { return static_cast<int64_t>(catalogue_->ids.size()); }
  int64_t dim() const { return catalogue_->dim; }
  MatrixView<const float> vectors() const;
  const std::string& id(int64_t row) const { return catalogue_->ids[static_cast<size_t>(row)]; }
  int64_t row(std::string_view id) const { return rows_.find(id, catalogue_->ids); }  // -1: unknown
  const Catalogue& catalogue() const { return *catalogue_; }

  // Errors (kSchema): unknown field (nearest name), a range on a category, values on a number.
  // A value that no item has simply matches nothing.
  // Cost: one pass over the attribute per condition.
  std::shared_ptr<const Mask> compile(const Filter& filter) const;
  // Items that both masks let pass; null = everything.
  static std::shared_ptr<const Mask> intersect(const std::shared_ptr<const Mask>& a,
                                               const std::shared_ptr<const Mask>& b);

  // Up to k hits per query, best first (kernels/topk.h order with row as id). Errors: k < 1
  // (kArgument), a query that is not finite (kNumeric).
  std::vector<std::vector<Hit>> search(std::span<const Query> queries, int64_t k,
                                       const Exec& exec) const;

 private:
  using Words = std::vector<uint64_t>;
  Words evaluate(const Filter& filter) const;
  Words one_of(const Attribute& attribute, const Filter& filter) const;
  Words range(const Attribute& attribute, const Filter& filter) const;
  const Attribute& attribute(const std::string& name) const;
  Words filled(bool value) const;

  std::shared_ptr<const Catalogue> catalogue_;
  TextTable rows_;
  TopKIndex topk_;  // over catalogue_->vectors
};

}  // namespace hypertower
