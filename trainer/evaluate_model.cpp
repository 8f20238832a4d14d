// evaluate(): a model that serves is asked for every event of a file, as if it were live.
#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kernels/error.h"
#include "model/history.h"
#include "trainer/cells.h"
#include "trainer/event_log.h"
#include "trainer/metrics.h"
#include "trainer/text.h"
#include "trainer/train.h"

namespace hypertower {
namespace {

constexpr size_t kBlock = 256;

// Which values of the feature `by` an event belongs to.
class Slicer {
 public:
  Slicer(const Recommender& model, const std::string& by) : model_(model) {
    if (by.empty()) return;
    const Schema& schema = model.schema();
    std::vector<std::string> known;
    for (const Feature& f : schema.features) {
      known.push_back(concat(group_word(f.group), ".", f.name));
      if (known.back() == by) feature_ = &f;
    }
    if (feature_ == nullptr) {
      throw Error(ErrorKind::kSchema,
                  concat("by: '", by, "' is no feature of this model.", name_hint(by, known)),
                  "by");
    }
    if (feature_->kind != FeatureKind::kCategory && feature_->kind != FeatureKind::kCategories) {
      throw Error(ErrorKind::kSchema,
                  concat("by: ", by, " is a ", kind_word(feature_->kind),
                         "; metrics are split by categories only."),
                  "by");
    }
  }

  bool active() const { return feature_ != nullptr; }

  std::vector<std::string> of(const Request& request, const Person* person,
                              int64_t item_row) const {
    if (feature_->group == Group::kItem) return of_item(item_row);
    if (feature_->group == Group::kUser) {
      return person == nullptr ? missing() : texts(find(person->features));
    }
    const Value* given = find(request.context);
    if (given == nullptr && feature_->from_time != TimePart::kNone && request.time) {
      return {std::to_string(time_part(feature_->from_time, *request.time))};
    }
    return texts(given);
  }

 private:
  static std::vector<std::string> missing() { return {"(missing)"}; }

  const Value* find(const Record& record) const {
    for (const auto& [name, value] : record) {
      if (name == feature_->name) return &value;
    }
    return nullptr;
  }

  std::vector<std::string> texts(const Value* value) const {
    auto out = value == nullptr ? missing() : category_texts(*feature_, *value);
    return out.empty() ? missing() : out;
  }

  std::vector<std::string> of_item(int64_t row) const {
    if (row < 0) return missing();
    std::vector<std::string> out;
    for (const Attribute& a : model_.index().catalogue().attributes) {
      if (a.name != feature_->name) continue;
      const auto r = static_cast<size_t>(row);
      for (auto c = a.offsets[r]; c < a.offsets[r + 1]; ++c) {
        out.push_back(a.values.value(a.codes[static_cast<size_t>(c)]));
      }
    }
    return out.empty() ? missing() : out;
  }

  const Recommender& model_;
  const Feature* feature_ = nullptr;
};

// A popularity list that training left in the model: rows of the catalogue with their counts.
class PopularList {
 public:
  // Empty when the model has none of that name.
  PopularList(const Recommender& model, const char* name) {
    const auto& training = model.data().training;
    const auto found = training.find(name);
    if (found == training.end()) return;
    for (const auto& entry : *found) entries_.emplace_back(entry.at(0), entry.at(1));
  }
  bool empty() const { return entries_.empty(); }

  // Rank of the item among those not seen, ties at their mean rank; 0 when it is not in the list.
  double rank(int64_t item, const std::vector<int64_t>& seen, size_t length,
              std::vector<int64_t>& top) const {
    top.clear();
    const auto is_seen = [&](int64_t row) {
      return std::binary_search(seen.begin(), seen.end(), row);
    };
    const auto own = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return entry.first == item; });
    const bool allowed = own != entries_.end() && !is_seen(item);
    int64_t greater = 0;
    int64_t equal = 0;
    for (const auto& [row, count] : entries_) {
      if (is_seen(row)) continue;
      if (top.size() < length) top.push_back(row);
      if (allowed) greater += count > own->second ? 1 : 0;
      if (allowed) equal += count == own->second ? 1 : 0;
    }
    return allowed ? 1 + static_cast<double>(greater) + static_cast<double>(equal - 1) / 2 : 0;
  }

 private:
  std::vector<std::pair<int64_t, double>> entries_;
};

class Evaluator {
 public:
  Evaluator(const Recommender& model, const EvaluateOptions& options)
      : model_(model),
        options_(options),
        slicer_(model, options.by),
        exclude_seen_(options.exclude_seen.value_or(model.data().exclude_seen_by_default)),
        total_(options.k, model.index().size()) {
    const std::pair<const char*, const char*> lists[] = {{"popularity", "popular"},
                                                         {"recent_popularity", "recent_popular"}};
    for (const auto& [name, list] : lists) {
      PopularList popular(model, list);
      if (popular.empty()) continue;
      baselines_.push_back({name, std::move(popular), {options.k, model.index().size()}});
    }
  }

  nlohmann::json run(const DataSource& events) {
    DataConfig config;
    config.separator = options_.separator;
    TrainData data;
    data.events = events;
    log_ = read_event_log(model_.schema(), config, data, -1, users_, items_);
    columns_ = feature_columns(log_.tables[0], model_.schema(), Group::kContext);
    people_.resize(static_cast<size_t>(users_.size()));
    past_.resize(people_.size());
    for (size_t u = 0; u < people_.size() && options_.people != nullptr; ++u) {
      people_[u] = options_.people->find(users_.ids()[u]);
    }
    // Simultaneous events must not see each other: a block of equal order is asked, then added.
    for (size_t begin = 0; begin < log_.rows.size();) {
      size_t end = begin + 1;
      while (end < log_.rows.size() && log_.rows[end].order == log_.rows[begin].order) ++end;
      ask(begin, end);
      for (size_t r = begin; r < end; ++r) {
        remember(log_.rows[r]);
      }
      begin = end;
    }
    flush();
    return report();
  }

 private:
  struct ListBaseline {
    std::string name;
    PopularList list;
    RankMetrics metrics;
  };

  HistoryEvent event_of(const EventLog::Row& row) const {
    HistoryEvent event;
    event.item = items_.ids()[static_cast<size_t>(row.item)];
    if (!log_.kinds.empty()) event.kind = log_.kinds[static_cast<size_t>(row.kind)];
    if (log_.has_time) event.time = row.order;
    return event;
  }

  // The file may hold events that are stored as well: those count once.
  void remember(const EventLog::Row& row) {
    const auto user = static_cast<size_t>(row.user);
    HistoryEvent event = event_of(row);
    if (people_[user] && event.time) {
      const auto& stored = people_[user]->history;
      const bool known = std::any_of(stored.begin(), stored.end(), [&](const HistoryEvent& e) {
        return e.time == event.time && e.item == event.item;
      });
      if (known) return;
    }
    past_[user].push_back(std::move(event));
  }

  // Stored and earlier events of the file, strictly before `row`, oldest first.
  std::vector<HistoryEvent> history_of(const EventLog::Row& row) const {
    const auto user = static_cast<size_t>(row.user);
    std::vector<HistoryEvent> out;
    if (people_[user]) {
      const auto moment = log_.has_time ? std::optional(row.order) : std::nullopt;
      const auto stored = history_before(people_[user]->history, moment);
      out.assign(stored.begin(), stored.end());
    }
    out.insert(out.end(), past_[user].begin(), past_[user].end());
    order_history(out);
    return out;
  }

  void ask(size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const EventLog::Row& row = log_.rows[r];
      Request request;
      request.user = users_.ids()[static_cast<size_t>(row.user)];
      if (log_.has_time) request.time = row.order;
      request.history = history_of(row);
      const auto features = model_.schema().group(Group::kContext);
      for (size_t f = 0; f < features.size(); ++f) {
        if (!columns_[f]) continue;
        with_place(log_.tables[0], row.source_row, features[f]->column, [&] {
          Value value = cell_for(*features[f], *columns_[f], row.source_row);
          if (!is_missing(value)) request.context.emplace_back(features[f]->name, std::move(value));
        });
      }
      requests_.push_back(std::move(request));
      rows_.push_back(r);
      if (requests_.size() == kBlock) flush();
    }
  }

  void flush() {
    if (requests_.empty()) return;
    RecommendOptions asked;
    asked.k = std::min(options_.k.back(), model_.index().size());
    asked.exclude_seen = exclude_seen_;
    const auto answers = model_.recommend(requests_, asked, options_.people, options_.exec);
    std::vector<int64_t> list, seen, top;
    for (size_t i = 0; i < requests_.size(); ++i) {
      const EventLog::Row& row = log_.rows[rows_[i]];
      const int64_t target = model_.index().row(items_.ids()[static_cast<size_t>(row.item)]);
      unknown_items_ += target < 0 ? 1 : 0;
      list.clear();
      for (const Hit& hit : answers[i].hits) list.push_back(hit.row);
      const auto place = std::find(list.begin(), list.end(), target);
      const double rank =
          target < 0 || place == list.end() ? 0 : static_cast<double>(place - list.begin()) + 1;
      total_.add(rank, list);
      if (!baselines_.empty()) {
        seen.clear();
        for (const HistoryEvent& event : *requests_[i].history) {
          if (exclude_seen_) seen.push_back(model_.index().row(event.item));
        }
        std::sort(seen.begin(), seen.end());
        for (ListBaseline& baseline : baselines_) {
          const double list_rank =
              baseline.list.rank(target, seen, static_cast<size_t>(asked.k), top);
          baseline.metrics.add(list_rank, top);
        }
      }
      if (slicer_.active()) add_to_slices(i, target, rank, list);
    }
    requests_.clear();
    rows_.clear();
  }

  void add_to_slices(size_t i, int64_t target, double rank, const std::vector<int64_t>& list) {
    const auto user = static_cast<size_t>(log_.rows[rows_[i]].user);
    const Person* person = people_[user] ? &*people_[user] : nullptr;
    for (const std::string& value : slicer_.of(requests_[i], person, target)) {
      const auto it = slices_.try_emplace(value, options_.k, model_.index().size()).first;
      it->second.add(rank, list);
    }
  }

  nlohmann::json report() const {
    nlohmann::json out = total_.to_json();
    out["unknown_items"] = unknown_items_;
    out["exclude_seen"] = exclude_seen_;
    out["baselines"] = nlohmann::json::object();
    for (const ListBaseline& b : baselines_) out["baselines"][b.name] = b.metrics.to_json();
    if (!slicer_.active()) return out;
    out["by"] = nlohmann::json::object();
    for (const auto& [value, metrics] : slices_) out["by"][value] = metrics.to_json();
    return out;
  }

  const Recommender& model_;
  const EvaluateOptions& options_;
  const Slicer slicer_;
  const bool exclude_seen_;
  RankMetrics total_;
  std::vector<ListBaseline> baselines_;
  std::map<std::string, RankMetrics> slices_;
  IdMap users_, items_;
  EventLog log_;
  std::vector<std::optional<Column>> columns_;
  std::vector<std::optional<Person>> people_;    // by user
  std::vector<std::vector<HistoryEvent>> past_;  // of the file, by user
  std::vector<Request> requests_;                // waiting for an answer ...
  std::vector<size_t> rows_;                     // ... and their rows of the log
  int64_t unknown_items_ = 0;
};

}  // namespace

nlohmann::json evaluate(const Recommender& model, const DataSource& events,
                        const EvaluateOptions& options) {
  if (!events.given()) {
    throw Error(ErrorKind::kArgument, "evaluate: expected events, got none.", "events");
  }
  const bool ascending = std::is_sorted(options.k.begin(), options.k.end());
  if (options.k.empty() || options.k.front() < 1 || !ascending) {
    throw Error(ErrorKind::kArgument, "evaluate: k must be ascending list lengths of at least 1.",
                "k");
  }
  if (options.separator.size() != 1) {
    throw Error(ErrorKind::kArgument,
                concat("evaluate: separator must be one character, got '", options.separator, "'."),
                "separator");
  }
  return Evaluator(model, options).run(events);
}

}  // namespace hypertower
