// Cells of feature columns as the feature code wants them, with their places in messages.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "model/schema.h"
#include "trainer/table.h"
#include "trainer/text.h"

namespace hypertower {

// Calls use() and adds the cell's place to a complaint of the feature code, and the cure to one
// about an infinity.
template <class Use>
void with_place(const SourceTable& table, int64_t row, const std::string& column, Use&& use) {
  try {
    use();
  } catch (const Error& e) {
    const char* cure =
        e.kind() == ErrorKind::kNumeric ? "; leave it empty where it is not known." : "";
    throw Error(e.kind(), concat(table.where(row), ", column '", column, "': ", e.what(), cure),
                e.field());
  }
}

// Categories of a CSV are split from the text as it stands; what is no number in a column of
// numbers is missing (`check_numbers` sees to it that such words are few); NaN is missing, which is
// what the libraries that people's tables come from mean by it; the rest is typed by column.
Value cell_for(const Feature& feature, const Column& column, int64_t row);

// A column of numbers may hold NaN and a few words ("unknown"): they count as missing and are
// reported. Words in more than 1 % of its filled cells are the wrong type. Error(kData) names the
// first such cell.
void check_numbers(const SourceTable& table, const Feature& feature, TrainObserver& observer);

// The columns that hold the features of one group, in schema order; from_time features have none.
// Error(kData): the table lacks one.
std::vector<std::optional<Column>> feature_columns(const SourceTable& table, const Schema& schema,
                                                   Group group);

}  // namespace hypertower
