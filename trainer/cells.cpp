#include "trainer/cells.h"

namespace hypertower {
namespace {

bool is_nan(const Value& value) {
  const auto* number = std::get_if<double>(&value);
  return number != nullptr && std::isnan(*number);
}

}  // namespace

Value cell_for(const Feature& feature, const Column& column, int64_t row) {
  if (feature.kind == FeatureKind::kNumber) {
    Value value = column.number(row);
    return std::holds_alternative<std::string>(value) || is_nan(value) ? Value{} : value;
  }
  const bool as_text =
      feature.kind == FeatureKind::kCategories || feature.kind == FeatureKind::kVector;
  Value value = as_text && column.type_name() == "text" ? column.raw(row) : column.cell(row);
  return is_nan(value) ? Value{} : value;
}

void check_numbers(const SourceTable& table, const Feature& feature, TrainObserver& observer) {
  constexpr double kTolerated = 0.01;
  const std::string path = concat(group_word(feature.group), ".", feature.name);
  const Column column = table.column(feature.column, path);
  int64_t filled = 0;
  int64_t words = 0;
  int64_t nans = 0;
  int64_t first = -1;
  int64_t first_word = -1;
  for (int64_t r = 0; r < column.rows(); ++r) {
    if (column.missing(r)) continue;
    ++filled;
    const Value value = column.number(r);
    const bool word = std::holds_alternative<std::string>(value);
    if (!word && !is_nan(value)) continue;
    if (word && words++ == 0) first_word = r;
    nans += word ? 0 : 1;
    if (first < 0) first = r;
  }
  if (first < 0) return;
  const auto text_of = [&](int64_t row) {
    const Value raw = column.raw(row);
    const auto* text = std::get_if<std::string>(&raw);
    return text != nullptr ? concat("'", *text, "'") : "NaN";
  };
  if (static_cast<double>(words) > kTolerated * static_cast<double>(filled)) {
    throw Error(
        ErrorKind::kData,
        concat(table.where(first_word), ": column '", feature.column, "' (", path,
               ") must hold numbers, got ", text_of(first_word), "; ", words, " of its ", filled,
               " filled cells are no numbers. Clean them or set kind = \"category\"."),
        path);
  }
  observer.on_message(concat(table.name(), ": ", words + nans, " of ", filled, " cells of column '",
                             feature.column, "' are no numbers and count as missing (the first: ",
                             text_of(first), " at ", table.where(first), ")."));
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
