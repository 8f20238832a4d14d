#include "trainer/cells.h"

namespace hypertower {

Value cell_for(const Feature& feature, const Column& column, int64_t row) {
  if (feature.kind == FeatureKind::kNumber) {
    Value value = column.number(row);
    return std::holds_alternative<std::string>(value) ? Value{} : value;
  }
  const bool as_text =
      feature.kind == FeatureKind::kCategories || feature.kind == FeatureKind::kVector;
  return as_text && column.type_name() == "text" ? column.raw(row) : column.cell(row);
}

void check_numbers(const SourceTable& table, const Feature& feature, TrainObserver& observer) {
  constexpr double kTolerated = 0.01;
  const std::string path = concat(group_word(feature.group), ".", feature.name);
  const Column column = table.column(feature.column, path);
  int64_t filled = 0;
  int64_t words = 0;
  int64_t first = -1;
  for (int64_t r = 0; r < column.rows(); ++r) {
    if (column.missing(r)) continue;
    ++filled;
    if (!std::holds_alternative<std::string>(column.number(r))) continue;
    if (words++ == 0) first = r;
  }
  if (words == 0) return;
  const std::string text = std::get<std::string>(column.raw(first));
  if (static_cast<double>(words) > kTolerated * static_cast<double>(filled)) {
    throw Error(ErrorKind::kData,
                concat(table.where(first), ": column '", feature.column, "' (", path,
                       ") must hold numbers, got '", text, "'; ", words, " of its ", filled,
                       " filled cells are no numbers. Clean them or set kind = \"category\"."),
                path);
  }
  observer.on_message(concat(table.name(), ": ", words, " of ", filled, " cells of column '",
                             feature.column, "' are no numbers and count as missing (the first: '",
                             text, "' at ", table.where(first), ")."));
}

std::vector<std::optional<Column>> feature_columns(const SourceTable& table, const Schema& schema,
                                                   Group group) {
  std::vector<std::optional<Column>> out;
  for (const Feature* f : schema.group(group)) {
    out.emplace_back();
    if (f->from_time != TimePart::kNone) continue;
    out.back() = table.column(f->column, concat(group_word(group), ".", f->name));
  }
  return out;
}

}  // namespace hypertower
