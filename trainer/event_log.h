// The rows of one or more event tables as ids, order and parts, in the order they were read; the
// step between files and `Events`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainer/dataset.h"
#include "trainer/table.h"

namespace hypertower {

struct EventLog {
  struct Row {
    int64_t user = 0;
    int64_t item = 0;
    double order = 0;  // time, position or row; comparable within one `file`
    float weight = 1;
    float history_weight = 1;
    int32_t kind = 0;
    int32_t file = 0;          // 0 events, 1 valid, 2 test
    int64_t source_row = 0;    // in tables[file]
    std::optional<Part> part;  // given by a column or by the file
  };

  std::vector<SourceTable> tables;  // [file]
  std::vector<Row> rows;            // sorted as Events
  std::vector<std::string> kinds;
  bool has_time = false;
  int64_t out_of_order = 0;  // rows that came after a later one
  int64_t unknown_items = 0, unknown_item_events = 0;

  std::string where(const Row& row) const {
    return tables[static_cast<size_t>(row.file)].where(row.source_row);
  }
};

// Reads, numbers the ids (adding to `users` and `items`), sorts. `known_items` is the number of
// rows of the items file, or -1 when there is none. Errors as train.h says.
EventLog read_event_log(const Schema& schema, const DataConfig& config, const TrainData& data,
                        int64_t known_items, IdMap& users, IdMap& items);

// The text of an id cell. Error(kData) when it is missing or a list.
std::string id_text(const Value& value, const SourceTable& table, int64_t row,
                    const std::string& column);

}  // namespace hypertower
