#include "trainer/event_log.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

// Seconds beyond this are milliseconds that somebody forgot to divide (year 5138).
constexpr double kLatestSeconds = 1e11;

std::vector<std::string> wanted_columns(const Schema& schema) {
  const Columns& c = schema.columns;
  std::vector<std::string> wanted = {c.user, c.item, c.time, c.position, c.kind, c.weight, c.split};
  for (const Feature& f : schema.features) wanted.push_back(f.column);
  return wanted;
}

std::string shown(const Value& cell) {
  if (is_missing(cell)) return "an empty cell";
  if (const auto text = canonical_text(cell)) return "'" + *text + "'";
  const auto* number = std::get_if<double>(&cell);
  if (number == nullptr) return std::string(type_word(cell));
  return std::isnan(*number) ? "NaN" : *number > 0 ? "infinity" : "-infinity";
}

[[noreturn]] void bad_cell(const SourceTable& table, int64_t row, const std::string& column,
                           const std::string& expected, const Value& got) {
  throw Error(ErrorKind::kData,
              concat(table.where(row), ": column '", column, "' must be ", expected, ", got ",
                     shown(got), "."),
              column);
}

double read_time(const SourceTable& table, int64_t row, const std::string& column,
                 const Value& cell) {
  const auto seconds = seconds_from(cell);
  if (!seconds) bad_cell(table, row, column, "a time (seconds or ISO 8601)", cell);
  if (std::abs(*seconds) > kLatestSeconds) {
    throw Error(ErrorKind::kData,
                concat(table.where(row), ": column '", column, "' must be seconds since 1970, got ",
                       *canonical_text(cell), "; are these milliseconds?"),
                column);
  }
  return *seconds;
}

double read_number(const SourceTable& table, int64_t row, const std::string& column,
                   const Value& cell, double low, const std::string& expected) {
  double x = std::nan("");
  if (const auto* i = std::get_if<int64_t>(&cell)) x = static_cast<double>(*i);
  if (const auto* d = std::get_if<double>(&cell)) x = *d;
  if (!std::isfinite(x) || x < low) bad_cell(table, row, column, expected, cell);
  return x;
}

Part read_part(const SourceTable& table, int64_t row, const std::string& column,
               const Value& cell) {
  const auto* word = std::get_if<std::string>(&cell);
  if (word != nullptr && *word == "train") return Part::kTrain;
  if (word != nullptr && *word == "valid") return Part::kValid;
  if (word != nullptr && *word == "test") return Part::kTest;
  bad_cell(table, row, column, "'train', 'valid' or 'test'", cell);
}

// Reads one table after the other into one log.
class Reader {
 public:
  Reader(const Schema& schema, const DataConfig& config, int64_t known_items, IdMap& users,
         IdMap& items, EventLog& log)
      : schema_(schema),
        config_(config),
        known_items_(known_items),
        users_(users),
        items_(items),
        log_(log) {}

  void read(const DataSource& source, const std::string& role, Part part) {
    const auto wanted = wanted_columns(schema_);
    log_.tables.push_back(SourceTable::read(source, role, wanted, config_.separator[0]));
    const SourceTable& table = log_.tables.back();
    const auto file = static_cast<int32_t>(log_.tables.size() - 1);
    const Columns& names = schema_.columns;
    const Column user = table.column(names.user, "columns.user");
    const Column item = table.column(names.item, "columns.item");
    if (user.declared_text()) users_.declare_text();
    if (item.declared_text()) items_.declare_text();
    const auto time = optional(table, names.time, "columns.time");
    const auto position = optional(table, time ? "" : names.position, "columns.position");
    const auto kind = optional(table, names.kind, "columns.kind");
    const auto weight = optional(table, names.weight, "columns.weight");
    const bool by_column = config_.split == "given" && !names.split.empty() && part == Part::kTrain;
    const auto split = optional(table, by_column ? names.split : "", "columns.split");
    log_.has_time = time.has_value();

    for (int64_t r = 0; r < table.rows(); ++r) {
      EventLog::Row row;
      row.file = file;
      row.source_row = r;
      const std::string item_id = id_text(item.cell(r), table, r, names.item);
      row.item = item_number(item_id);
      if (row.item < 0) continue;
      std::string user_id = id_text(user.cell(r), table, r, names.user);
      if (config_.sessions && file > 0) user_id = concat(role, ":", user_id);
      row.user = users_.add(user_id);
      row.order = static_cast<double>(r);
      if (time) row.order = read_time(table, r, names.time, time->cell(r));
      if (position) {
        row.order = read_number(table, r, names.position, position->cell(r), -HUGE_VAL, "a number");
      }
      if (kind) set_kind(id_text(kind->cell(r), table, r, names.kind), row);
      if (weight) {
        row.weight *= static_cast<float>(
            read_number(table, r, names.weight, weight->cell(r), 0.0, "a number of at least 0"));
      }
      if (split) row.part = read_part(table, r, names.split, split->cell(r));
      if (part != Part::kTrain) row.part = part;
      log_.rows.push_back(row);
    }
  }

  void finish() {
    log_.unknown_items = unknown_.size();
    log_.kinds = kinds_.ids();
  }

 private:
  static std::optional<Column> optional(const SourceTable& table, const std::string& name,
                                        const std::string& asked_by) {
    if (name.empty()) return std::nullopt;
    return table.column(name, asked_by);
  }

  // -1: the event is dropped.
  int64_t item_number(const std::string& id) {
    const int64_t known = items_.find(id);
    const bool in_file = known >= 0 && (known_items_ < 0 || known < known_items_);
    if (in_file) return known;
    if (known_items_ < 0) return items_.add(id);
    ++log_.unknown_item_events;
    unknown_.add(id);
    return config_.unknown_items == "drop" ? -1 : items_.add(id);
  }

  void set_kind(const std::string& kind, EventLog::Row& row) {
    row.kind = static_cast<int32_t>(kinds_.add(kind));
    const auto it = schema_.kind_weights.find(kind);
    if (it == schema_.kind_weights.end()) return;
    row.weight = row.history_weight = static_cast<float>(it->second);
  }

  const Schema& schema_;
  const DataConfig& config_;
  int64_t known_items_;
  IdMap& users_;
  IdMap& items_;
  EventLog& log_;
  IdMap unknown_;
  IdMap kinds_;
};

}  // namespace

std::string id_text(const Value& value, const SourceTable& table, int64_t row,
                    const std::string& column) {
  auto text = canonical_text(value);
  if (!text || text->empty()) bad_cell(table, row, column, "a number or text", value);
  return *std::move(text);
}

EventLog read_event_log(const Schema& schema, const DataConfig& config, const TrainData& data,
                        int64_t known_items, IdMap& users, IdMap& items) {
  EventLog log;
  Reader reader(schema, config, known_items, users, items, log);
  reader.read(data.events, "events", Part::kTrain);
  if (config.split == "given") {
    if (data.valid.given()) reader.read(data.valid, "valid", Part::kValid);
    if (data.test.given()) reader.read(data.test, "test", Part::kTest);
  }
  reader.finish();
  // Without time only rows of one file can be compared: a later file is later.
  const auto before = [&](const EventLog::Row& a, const EventLog::Row& b) {
    if (!log.has_time && a.file != b.file) return a.file < b.file;
    return a.order < b.order;
  };
  for (size_t i = 1; i < log.rows.size(); ++i) {
    log.out_of_order += before(log.rows[i], log.rows[i - 1]) ? 1 : 0;
  }
  std::stable_sort(log.rows.begin(), log.rows.end(), before);
  if (log.has_time) return log;
  // From here on one ascending number tells the order across files.
  double shift = 0;
  for (size_t i = 0; i < log.rows.size(); ++i) {
    EventLog::Row& row = log.rows[i];
    if (i > 0 && row.file != log.rows[i - 1].file) {
      shift = log.rows[i - 1].order + 1 - row.order;
    }
    row.order += shift;
  }
  return log;
}

}  // namespace hypertower
