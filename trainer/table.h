// Reads a DataSource into one Arrow table that still knows which file and line each row came from,
// and gives its cells as `Value`s, so that every source ends in the same feature code as serving.
//
// CSV cells are read as text and typed here, by whole columns: all integers, all numbers, or text
// ("007" is text). Only an empty cell is missing; "NA" is a value, "nan" in a column of numbers is
// a NaN, which features count as missing (trainer/cells.h).
// Objects are immutable after construction; thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/value.h"
#include "trainer/train.h"

namespace arrow {
class Array;
class Table;
}  // namespace arrow

namespace hypertower {

// One column, contiguous.
class Column {
 public:
  Column(std::shared_ptr<arrow::Array> array, bool text_cells);

  int64_t rows() const;
  bool missing(int64_t row) const;
  // The cell: monostate when missing; timestamps and dates as seconds since 1970 UTC; dictionaries
  // decoded; lists of text or numbers as such.
  Value cell(int64_t row) const;
  // The cell without typing by column: CSV text as it stands in the file.
  Value raw(int64_t row) const;
  // The cell of a column that should hold numbers: text that reads as a number is that number.
  Value number(int64_t row) const;
  // Arrow's name for the type, "text" for CSV.
  std::string type_name() const;
  // The table itself says that the cells are text (Arrow text or a dictionary of it). A CSV has no
  // types: false.
  bool declared_text() const;

 private:
  enum class TextType : uint8_t { kNotCsv, kInteger, kNumber, kText };
  std::shared_ptr<arrow::Array> array_;
  TextType text_type_ = TextType::kNotCsv;
};

class SourceTable {
 public:
  // `role` is "events", "items" ... for messages about tables in memory. Reads only the columns in
  // `wanted` that exist. Errors: kIo for a file that is missing or cannot be read, kData for an
  // empty or broken one or the wrong separator.
  static SourceTable read(const DataSource& source, const std::string& role,
                          std::span<const std::string> wanted, char separator);

  int64_t rows() const;
  const std::string& name() const { return name_; }  // "events.csv.gz" or "the events table"
  // Error(kData): no such column; says which setting asked for it and names the nearest, and how to
  // give the other table where an events table is asked for what items or users are.
  Column column(const std::string& name, const std::string& asked_by) const;
  // "events.csv.gz:17" or "events.parquet, row 16" (rows count from 0).
  std::string where(int64_t row) const;

 private:
  struct Segment {
    int64_t first_row;
    std::string file;
    bool lines;  // CSV: say the line, else the row
  };
  std::string name_;
  std::string role_;
  std::shared_ptr<arrow::Table> table_;
  std::vector<std::string> all_columns_;  // also those that were not read
  std::vector<Segment> segments_;
  bool text_cells_ = false;
};

// Seconds since 1970 UTC from a cell: a number of seconds, a timestamp, or ISO 8601 text
// ("2017-01-28 14:06:53", an offset such as "+09:00" is honoured). nullopt: not a time.
std::optional<double> seconds_from(const Value& value);

}  // namespace hypertower
