#include "trainer/dataset.h"

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <optional>

#include "kernels/error.h"
#include "trainer/cells.h"
#include "trainer/event_log.h"
#include "trainer/table.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

// Where the static features of an entity (item or user) are found: its row in its own file, or,
// without such a file, the first event that names it.
struct Entities {
  const SourceTable* table = nullptr;
  std::vector<int64_t> row;  // per entity, -1: nothing is known of it
};

// Reads the ids of an items or users file, each in its own row. Error(kData): an id twice.
Entities read_ids(const SourceTable& table, const std::string& id_column,
                  const std::string& asked_by, const std::string& what, IdMap& ids) {
  Entities out{&table, {}};
  const Column column = table.column(id_column, asked_by);
  if (column.declared_text()) ids.declare_text();
  for (int64_t r = 0; r < table.rows(); ++r) {
    const std::string id = id_text(column.cell(r), table, r, id_column);
    if (const int64_t before = ids.find(id); before >= 0) {
      throw Error(
          ErrorKind::kData,
          concat(table.where(r), ": ", what, " '", id, "' came before, at ",
                 table.where(out.row[static_cast<size_t>(before)]), "; ids must be distinct."),
          id_column);
    }
    ids.add(id);
    out.row.push_back(r);
  }
  return out;
}

std::vector<std::string> wanted_columns(const Schema& schema, Group group, const std::string& id) {
  std::vector<std::string> wanted = {id};
  for (const Feature* f : schema.group(group)) wanted.push_back(f->column);
  return wanted;
}

class Loader {
 public:
  Loader(const Schema& schema, const DataConfig& config, const TrainData& data,
         TrainObserver& observer)
      : schema_(schema), config_(config), data_(data), observer_(observer), fitter_(schema) {}

  Dataset load() {
    read_tables();
    if (config_.split == "random") draw_parts();
    take_events();
    split();
    fit();
    encode();
    describe();
    return std::move(out_);
  }

 private:
  void read_tables() {
    const char separator = config_.separator[0];
    const Columns& names = schema_.columns;
    if (data_.items.given()) {
      item_table_ = SourceTable::read(data_.items, "items",
                                      wanted_columns(schema_, Group::kItem, names.item), separator);
      item_rows_ = read_ids(*item_table_, names.item, "columns.item", "item", out_.items);
    }
    const int64_t known_items = item_table_ ? out_.items.size() : -1;
    log_ = read_event_log(schema_, config_, data_, known_items, out_.users, out_.items);
    if (log_.rows.empty()) {
      throw Error(ErrorKind::kData,
                  concat(log_.tables[0].name(), ": none of its items is in ", item_table_->name(),
                         "; is columns.item the same id in both?"));
    }
    const int64_t event_users = out_.users.size();
    if (data_.users.given()) read_users(event_users);
    if (out_.items.size() < 2) {
      throw Error(ErrorKind::kData, concat(log_.tables[0].name(), ": all ", log_.rows.size(),
                                           " events are about the one item '", out_.items.ids()[0],
                                           "'; ranking needs at least two."));
    }
    if (event_users == 1) {
      observer_.on_message(concat("All ", log_.rows.size(), " events are of the one user '",
                                  out_.users.ids()[0],
                                  "': what is learned holds for that user alone."));
    }
    if (log_.unknown_item_events > 0) {
      observer_.on_message(
          concat(log_.unknown_item_events, " events name ", log_.unknown_items, " items that ",
                 item_table_->name(),
                 " lacks: ", config_.unknown_items == "drop" ? "dropped" : "kept, without features",
                 " (data.unknown_items = \"", config_.unknown_items, "\")."));
    }
    if (log_.has_time && log_.out_of_order > 0) {
      observer_.on_message(concat(log_.tables[0].name(), " is not in time order; sorted by '",
                                  schema_.columns.time, "'."));
    }
    for (const auto& [kind, weight] : schema_.kind_weights) {
      if (std::find(log_.kinds.begin(), log_.kinds.end(), kind) == log_.kinds.end()) {
        observer_.on_message(
            concat("[kinds] names '", kind, "', which no event has.", name_hint(kind, log_.kinds)));
      }
    }
  }

  // Users of the file keep the numbers that events gave them; further ones are added.
  void read_users(int64_t event_users) {
    user_table_ = SourceTable::read(data_.users, "users",
                                    wanted_columns(schema_, Group::kUser, schema_.columns.user),
                                    config_.separator[0]);
    IdMap in_file;
    const Entities found =
        read_ids(*user_table_, schema_.columns.user, "columns.user", "user", in_file);
    if (in_file.declared_text()) out_.users.declare_text();
    user_rows_.table = &*user_table_;
    user_rows_.row.assign(static_cast<size_t>(event_users), -1);
    for (size_t i = 0; i < found.row.size(); ++i) {
      const auto user = static_cast<size_t>(out_.users.add(in_file.ids()[i]));
      if (user >= user_rows_.row.size()) user_rows_.row.resize(user + 1, -1);
      user_rows_.row[user] = found.row[i];
    }
    const auto without = std::count(user_rows_.row.begin(), user_rows_.row.end(), -1);
    if (without > 0) {
      observer_.on_message(concat(without, " of ", event_users, " users have no row in ",
                                  user_table_->name(), ": their features are missing."));
    }
  }

  // Sorted rows -> columns; entities without a file of their own are described by their first
  // event.
  void take_events() {
    Events& e = out_.events;
    out_.kinds = log_.kinds;
    const bool from_events_items = !item_table_ && !schema_.group(Group::kItem).empty();
    const bool from_events_users = !user_table_ && !schema_.group(Group::kUser).empty();
    item_rows_.row.resize(static_cast<size_t>(out_.items.size()), -1);
    user_rows_.row.resize(static_cast<size_t>(out_.users.size()), -1);
    if (from_events_items) item_rows_.table = &log_.tables[0];
    if (from_events_users) user_rows_.table = &log_.tables[0];
    for (const EventLog::Row& row : log_.rows) {
      e.user.push_back(row.user);
      e.item.push_back(row.item);
      e.order.push_back(row.order);
      if (log_.has_time) e.time.push_back(row.order);
      e.weight.push_back(row.weight);
      e.history_weight.push_back(row.history_weight);
      if (!log_.kinds.empty()) e.kind.push_back(row.kind);
      if (row.file != 0) continue;
      int64_t& item_row = item_rows_.row[static_cast<size_t>(row.item)];
      int64_t& user_row = user_rows_.row[static_cast<size_t>(row.user)];
      if (from_events_items && item_row < 0) item_row = row.source_row;
      if (from_events_users && user_row < 0) user_row = row.source_row;
    }
  }

  // Held-out events go to the end: all that trains is history of theirs, none of them of another.
  void draw_parts() {
    observer_.on_message(
        "data.split = \"random\" predicts what people did from what they did before and after: "
        "figures flatter a model where events have an order (\"time\" and \"last\" do not).");
    std::vector<int64_t> users;
    for (const EventLog::Row& row : log_.rows) users.push_back(row.user);
    const std::vector<Part> parts =
        split_random(users, out_.users.size(), config_.valid_fraction, config_.test_fraction);
    for (size_t r = 0; r < parts.size(); ++r) log_.rows[r].part = parts[r];
    std::stable_sort(log_.rows.begin(), log_.rows.end(),
                     [](const auto& a, const auto& b) { return *a.part < *b.part; });
  }

  // All of a part at one moment after the events of the parts before.
  void put_held_out_last() {
    Events& e = out_.events;
    double latest = 0;
    for (size_t i = 0; i < e.order.size(); ++i) {
      if (e.part[i] == Part::kTrain) latest = e.order[i];
      if (e.part[i] != Part::kTrain) e.order[i] = latest + static_cast<double>(e.part[i]);
    }
  }

  void split() {
    Events& e = out_.events;
    if (config_.split == "last") {
      e.part = split_last(e.user, out_.users.size());
    } else if (config_.split == "time") {
      if (!log_.has_time) {
        throw Error(ErrorKind::kSchema,
                    "data.split = \"time\" needs the time of every event: name its column as time "
                    "under [columns], or use split = \"last\".",
                    "data.split");
      }
      e.part = split_by_time(e.order, config_.valid_fraction, config_.test_fraction);
    } else if (config_.split == "random") {
      for (const EventLog::Row& row : log_.rows) e.part.push_back(*row.part);
      put_held_out_last();
    } else {
      const bool column = !schema_.columns.split.empty();
      if (!column && log_.tables.size() == 1) {
        throw Error(ErrorKind::kSchema,
                    "data.split = \"given\" needs the files valid or test under [data], or a "
                    "column named as split under [columns].",
                    "data.split");
      }
      for (const EventLog::Row& row : log_.rows) e.part.push_back(row.part.value_or(Part::kTrain));
    }
    if (out_.count(Part::kTrain) == 0) {
      throw Error(ErrorKind::kData,
                  concat(log_.tables[0].name(), ": no event is left to train on."), "data.split");
    }
  }

  // Vocabularies and edges: of the training events, and of all items and users.
  void fit() {
    for (const Feature& f : schema_.features) {
      if (f.kind != FeatureKind::kNumber) continue;
      if (f.group == Group::kContext) {
        for (const SourceTable& table : log_.tables) check_numbers(table, f, observer_);
      } else {
        check_numbers(*(f.group == Group::kItem ? item_rows_ : user_rows_).table, f, observer_);
      }
    }
    size_t index = 0;
    for (const Group group : {Group::kUser, Group::kContext, Group::kItem}) {
      const auto features = schema_.group(group);
      for_each_cell(group, [&](size_t f, const Value& value, size_t record) {
        if (group != Group::kContext || out_.events.part[record] == Part::kTrain) {
          fitter_.add(index + f, value);
        }
      });
      index += features.size();
    }
    out_.features = fitter_.finish();
  }

  void encode() {
    out_.user_records.resize(static_cast<size_t>(out_.users.size()));
    std::vector<std::optional<AttributeBuilder>> builders;  // per item feature; vectors have none
    for (const Feature* f : schema_.group(Group::kItem)) {
      builders.emplace_back();
      if (f->kind != FeatureKind::kVector) builders.back().emplace(*f);
    }
    for (const Group group : {Group::kUser, Group::kContext, Group::kItem}) {
      const auto fitted = out_.features.group(group);
      Batch& batch = batch_of(group);
      batch.rows = static_cast<int64_t>(records_of(group));
      batch.columns.resize(fitted.size());
      for_each_cell(group, [&](size_t f, const Value& value, size_t record) {
        FeatureSpace::append(fitted[f], value, batch.columns[f]);
        if (group == Group::kUser && !is_missing(value)) {
          out_.user_records[record].emplace_back(fitted[f].feature.name, value);
        }
        if (group == Group::kItem && builders[f]) builders[f]->add(value);
      });
    }
    for (auto& builder : builders) {
      if (builder) out_.attributes.push_back(builder->finish());
    }
  }

  // Calls visit(feature of the group, value, record) feature by feature, records ascending.
  template <class Visit>
  void for_each_cell(Group group, Visit&& visit) {
    const auto features = schema_.group(group);
    if (features.empty()) return;
    const Entities* entities = group == Group::kItem ? &item_rows_ : &user_rows_;
    std::vector<std::vector<std::optional<Column>>> columns;  // [table][feature]
    if (group == Group::kContext) {
      for (const auto& table : log_.tables)
        columns.push_back(feature_columns(table, schema_, group));
    } else {
      columns.push_back(feature_columns(*entities->table, schema_, group));
    }
    for (size_t f = 0; f < features.size(); ++f) {
      for (size_t r = 0; r < records_of(group); ++r) {
        if (group == Group::kContext) {
          visit_event(*features[f], columns, f, r, visit);
        } else if (const int64_t row = entities->row[r]; row >= 0) {
          with_place(*entities->table, row, features[f]->column,
                     [&] { visit(f, cell_for(*features[f], *columns[0][f], row), r); });
        } else {
          visit(f, Value{}, r);
        }
      }
    }
  }

  template <class Visit>
  void visit_event(const Feature& feature,
                   const std::vector<std::vector<std::optional<Column>>>& columns, size_t f,
                   size_t r, Visit& visit) {
    if (feature.from_time != TimePart::kNone) {
      visit(f, Value(time_part(feature.from_time, out_.events.time[r])), r);
      return;
    }
    const EventLog::Row& row = log_.rows[r];
    const auto file = static_cast<size_t>(row.file);
    with_place(log_.tables[file], row.source_row, feature.column,
               [&] { visit(f, cell_for(feature, *columns[file][f], row.source_row), r); });
  }

  size_t records_of(Group group) const {
    if (group == Group::kContext) return static_cast<size_t>(out_.events.size());
    return static_cast<size_t>(group == Group::kItem ? out_.items.size() : out_.users.size());
  }

  Batch& batch_of(Group group) {
    if (group == Group::kContext) return out_.events.context;
    return group == Group::kItem ? out_.item_features : out_.user_features;
  }

  void describe() {
    out_.counts = {{"events", out_.events.size()},
                   {"users", out_.users.size()},
                   {"items", out_.items.size()},
                   {"train_events", out_.count(Part::kTrain)},
                   {"valid_events", out_.count(Part::kValid)},
                   {"test_events", out_.count(Part::kTest)},
                   {"unknown_item_events", log_.unknown_item_events}};
    out_.fingerprint = fingerprint();
    observer_.on_message(concat(out_.events.size(), " events, ", out_.users.size(), " users, ",
                                out_.items.size(), " items; ", out_.count(Part::kTrain), " train, ",
                                out_.count(Part::kValid), " valid, ", out_.count(Part::kTest),
                                " test (split = \"", config_.split, "\")."));
  }

  // FNV-1a over ids and events: tells whether two models saw the same data.
  std::string fingerprint() const {
    uint64_t hash = 0;
    const auto mix = [&](uint64_t x) { hash = (hash ^ x) * 0x100000001b3ULL + (hash >> 47); };
    for (const auto& id : out_.users.ids()) mix(stable_hash(id));
    for (const auto& id : out_.items.ids()) mix(stable_hash(id));
    for (size_t e = 0; e < out_.events.user.size(); ++e) {
      mix(static_cast<uint64_t>(out_.events.user[e]));
      mix(static_cast<uint64_t>(out_.events.item[e]));
      mix(stable_hash({reinterpret_cast<const char*>(&out_.events.order[e]), sizeof(double)}));
    }
    std::ostringstream text;
    text << std::hex << std::setw(16) << std::setfill('0') << hash;
    return text.str();
  }

  const Schema& schema_;
  const DataConfig& config_;
  const TrainData& data_;
  TrainObserver& observer_;
  FeatureFitter fitter_;
  std::optional<SourceTable> item_table_;
  std::optional<SourceTable> user_table_;
  Entities item_rows_;
  Entities user_rows_;
  EventLog log_;
  Dataset out_;
};

}  // namespace

int64_t IdMap::add(const std::string& id) {
  const auto [it, fresh] = rows_.emplace(id, size());
  if (fresh) ids_.push_back(id);
  return it->second;
}

int64_t IdMap::find(const std::string& id) const {
  const auto it = rows_.find(id);
  return it == rows_.end() ? -1 : it->second;
}

bool IdMap::all_integers() const {
  if (declared_text_) return false;
  return std::all_of(ids_.begin(), ids_.end(), [](const std::string& id) {
    int64_t value = 0;
    const char* const end = id.data() + id.size();
    const auto parsed = std::from_chars(id.data(), end, value);
    return parsed.ec == std::errc() && parsed.ptr == end && std::to_string(value) == id;
  });
}

int64_t Dataset::count(Part part) const {
  return std::count(events.part.begin(), events.part.end(), part);
}

Dataset load_dataset(const Schema& schema, const DataConfig& config, const TrainData& data,
                     TrainObserver& observer) {
  if (!data.events.given()) {
    throw Error(ErrorKind::kArgument,
                "no events: name them under [data] as events = \"events.csv.gz\", or hand them to "
                "fit.",
                "data.events");
  }
  return Loader(schema, config, data, observer).load();
}

}  // namespace hypertower
