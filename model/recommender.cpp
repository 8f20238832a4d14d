#include "model/recommender.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/error.h"
#include "kernels/topk.h"
#include "model/event_check.h"
#include "model/golden.h"
#include "model/history_transformer.h"

namespace hypertower {
namespace {

// What a batch of requests says, with stored people filled in.
struct Inputs {
  Batch users, context;  // encoded
  HistoryBatch history;
  std::vector<std::vector<int64_t>> seen;  // rows of all items of the history, with repeats
  // With habits, the latest events of each request, and their contexts.
  std::vector<std::vector<PastEvent>> past;
  Batch past_contexts;
};

double now() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Throws `e` again with `place`, when there is one, before the field.
[[noreturn]] void rethrow(const Error& e, const std::string& place) {
  std::string message = e.what();
  std::string field = e.field();
  for (std::string* text : {&message, &field}) {
    if (text->starts_with("user.")) text->replace(0, 4, "features");  // as requests call them
    if (!place.empty() && text->starts_with("item.")) text->erase(0, 5);
  }
  if (!place.empty()) {
    const bool led = !field.empty() && message.starts_with(field);
    message = place + (led ? "." : ": ") + message;
    field = field.empty() ? place : place + "." + field;
  }
  throw Error(e.kind(), message, field);
}

std::string place_in(const char* list, size_t i, size_t n) {
  return n > 1 ? std::string(list) + "[" + std::to_string(i) + "]" : std::string();
}

std::string place_of(std::span<const Request> requests, size_t r) {
  const std::string& own = requests[r].place;
  return own.empty() ? place_in("requests", r, requests.size()) : own;
}

// encode() of the feature space, whose errors name the place of the record: place(r).
template <class Place>
Batch encode_group(const FeatureSpace& features, Group g, std::span<const Record* const> records,
                   std::span<const std::optional<double>> times, const Place& place) {
  try {
    return features.encode(g, records, times);
  } catch (const Error& whole) {
    for (size_t r = 0; r < records.size(); ++r) {
      try {
        features.encode(g, records.subspan(r, 1), times.empty() ? times : times.subspan(r, 1));
      } catch (const Error& e) {
        rethrow(e, place(r));
      }
    }
    throw;
  }
}

// Stored features (of which another version of the schema may have had more) below given ones.
Record merge(const Schema& schema, const std::optional<Person>& person, const Record& given) {
  Record merged;
  if (person) {
    for (const auto& field : person->features) {
      if (schema.find(Group::kUser, field.first) != nullptr) merged.push_back(field);
    }
  }
  merged.insert(merged.end(), given.begin(), given.end());
  return merged;
}

double kind_weight(const Schema& schema, const std::string& kind) {
  const auto found = schema.kind_weights.find(kind);
  return found == schema.kind_weights.end() ? 1.0 : found->second;
}

// What a request itself says beside its features.
void check_request(const FeatureSpace& features, const Request& request) {
  if (request.time) check_time(*request.time, "time");
  if (!request.history) return;
  for (size_t i = 0; i < request.history->size(); ++i) {
    check_event(features, (*request.history)[i], "history[" + std::to_string(i) + "]");
  }
}

// Fields that this schema has: a stored event may be older than the schema.
Record known_fields(const Schema& schema, const Record& context) {
  Record known;
  for (const auto& field : context) {
    if (schema.find(Group::kContext, field.first) != nullptr) known.push_back(field);
  }
  return known;
}

Inputs resolve(const Encoder& encoder, const ItemIndex& index, bool with_past,
               std::span<const Request> requests, const PeopleSource* people) {
  static const std::vector<HistoryEvent> kNothing;
  const FeatureSpace& features = encoder.features();
  const Schema& schema = features.schema();
  Inputs in;
  std::vector<Record> users, past_contexts;
  std::vector<std::optional<double>> times, past_times;
  const double moment = now();
  for (size_t r = 0; r < requests.size(); ++r) {
    const Request& request = requests[r];
    std::optional<Person> person;
    if (people != nullptr && request.user) person = people->find(*request.user);
    users.push_back(merge(schema, person, request.features));
    times.push_back(request.time.value_or(moment));
    try {
      check_request(features, request);
    } catch (const Error& e) {
      rethrow(e, place_of(requests, r));
    }
    std::vector<int64_t>& seen = in.seen.emplace_back();
    std::vector<float> weights;
    std::vector<int64_t> kinds;
    std::vector<const HistoryEvent*> events;
    for (const HistoryEvent& event :
         request.history ? *request.history : (person ? person->history : kNothing)) {
      const int64_t row = index.row(event.item);
      if (row < 0) continue;
      seen.push_back(row);
      weights.push_back(static_cast<float>(kind_weight(schema, event.kind)));
      kinds.push_back(kind_row(schema, event.kind));
      events.push_back(&event);
    }
    const auto end = static_cast<int64_t>(events.size());
    const auto begin = end - std::min(end, schema.history_length);
    in.history.items.insert(in.history.items.end(), seen.begin() + begin, seen.begin() + end);
    in.history.weights.insert(in.history.weights.end(), weights.begin() + begin, weights.end());
    in.history.kinds.insert(in.history.kinds.end(), kinds.begin() + begin, kinds.end());
    in.history.offsets.push_back(static_cast<int64_t>(in.history.items.size()));
    std::vector<PastEvent>& past = in.past.emplace_back();
    for (int64_t e = with_past ? std::max<int64_t>(0, end - Habits::kEvents) : end; e < end; ++e) {
      const auto k = static_cast<size_t>(e);
      past.push_back({seen[k], weights[k], static_cast<int64_t>(past_contexts.size())});
      past_contexts.push_back(known_fields(schema, events[k]->context));
      past_times.push_back(events[k]->time);
    }
  }
  const auto place = [&](size_t r) { return place_of(requests, r); };
  std::vector<const Record*> records;
  for (const Record& user : users) records.push_back(&user);
  in.users = encode_group(features, Group::kUser, records, {}, place);
  records.clear();
  for (const Request& request : requests) records.push_back(&request.context);
  in.context = encode_group(features, Group::kContext, records, times, place);
  records.clear();
  for (const Record& context : past_contexts) records.push_back(&context);
  in.past_contexts = features.encode(Group::kContext, records, past_times);
  return in;
}

// [n, dim]
std::vector<float> queries_of(const Encoder& encoder, const ItemIndex& index, const Inputs& in,
                              const Exec& exec) {
  const int64_t rows = in.users.rows;
  std::vector<float> states(static_cast<size_t>(rows * encoder.width()));
  const MatrixView<float> state(states.data(), rows, encoder.width());
  encoder.encode_state(in.users, in.history, index.vectors(), state, exec);
  std::vector<float> vectors(static_cast<size_t>(rows * encoder.dim()));
  encoder.encode_query(state, in.context, {vectors.data(), rows, encoder.dim()}, exec);
  return vectors;
}

// What the memory adds to the scores of request `r`.
ScoreDeltas deltas_of(const Memory& memory, const Inputs& in, size_t r) {
  const auto& [followers, habits] = memory;
  ScoreDeltas deltas;
  if (followers.on()) {
    const auto begin = static_cast<size_t>(in.history.offsets[r]);
    const auto count = static_cast<size_t>(in.history.offsets[r + 1]) - begin;
    deltas = followers.of(std::span(in.history.items).subspan(begin, count),
                          std::span(in.history.weights).subspan(begin, count));
    for (auto& pair : deltas) pair.second = followers.delta(pair.second);
  }
  if (habits.on()) {
    const ScoreDeltas own =
        habits.deltas(in.past[r], in.past_contexts, in.context, static_cast<int64_t>(r));
    deltas.insert(deltas.end(), own.begin(), own.end());
    add_up(deltas);
  }
  return deltas;
}

// Masks of the filters of one call; equal filters are compiled once.
class Masks {
 public:
  Masks(const ItemIndex& index, const std::optional<Filter>& common) : index_(index) {
    if (common) common_ = index.compile(*common);
  }

  std::shared_ptr<const Mask> of(const std::optional<Filter>& where) {
    if (!where) return common_;
    for (const auto& [filter, mask] : known_) {
      if (*filter == *where) return mask;
    }
    known_.emplace_back(&*where, ItemIndex::intersect(common_, index_.compile(*where)));
    return known_.back().second;
  }

 private:
  const ItemIndex& index_;
  std::shared_ptr<const Mask> common_;
  std::vector<std::pair<const Filter*, std::shared_ptr<const Mask>>> known_;
};

void sort_unique(std::vector<int64_t>& rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

// Items left by mask and exclusions; `exclude` is sorted and distinct.
int64_t count_eligible(const ItemIndex& index, const Query& query) {
  if (query.mask == nullptr) return index.size() - static_cast<int64_t>(query.exclude.size());
  int64_t eligible = query.mask->eligible;
  for (const int64_t row : query.exclude) {
    const auto i = static_cast<size_t>(row);
    eligible -= static_cast<int64_t>(query.mask->words[i / 64] >> (i % 64) & 1);
  }
  return eligible;
}

[[noreturn]] void unknown_item(const ItemIndex& index, const std::string& id,
                               const std::string& cure) {
  constexpr int64_t kMaxSearched = 100'000;  // a hint is worth milliseconds, not seconds
  std::string nearest;
  if (index.size() <= kMaxSearched) nearest = nearest_name(id, index.catalogue().ids);
  throw Error(ErrorKind::kArgument,
              "unknown item '" + id + "'" + cure + "." +
                  (nearest.empty() ? "" : " Did you mean '" + nearest + "'?"),
              "item");
}

void check_k(int64_t k) {
  if (k < 1)
    throw Error(ErrorKind::kArgument, "k: expected 1 or more, got " + std::to_string(k), "k");
}

}  // namespace

Recommender::Recommender(ModelData model)
    : model_(std::move(model)),
      encoder_(model_.architecture, model_.features, std::move(model_.weights)),
      index_(std::move(model_.catalogue), model_.tiles) {
  model_.weights.clear();
  model_.catalogue = {};
  model_.tiles = {};
  if (index_.dim() != encoder_.dim() || encoder_.id_rows() > index_.size()) {
    throw Error(ErrorKind::kModel, "the catalogue (" + std::to_string(index_.size()) +
                                       " items of " + std::to_string(index_.dim()) +
                                       " numbers) does not fit the weights (" +
                                       std::to_string(encoder_.id_rows()) + " items of " +
                                       std::to_string(encoder_.dim()) + ")");
  }
  check_followers(model_.memory.followers, index_.size());
  check_habits(model_.memory.habits, encoder_.features().group(Group::kContext).size());
  check_golden(*this, model_.golden);
}

std::shared_ptr<const Recommender> Recommender::load(const std::string& path) {
  return std::make_shared<const Recommender>(read_model_directory(path));
}

ModelData Recommender::to_model_data() const {
  ModelData model = model_;
  model.weights = encoder_.weights();
  model.catalogue = index_.catalogue();
  return model;
}

std::vector<Answer> Recommender::recommend(std::span<const Request> requests,
                                           const RecommendOptions& options,
                                           const PeopleSource* people, const Exec& exec) const {
  check_k(options.k);
  const Inputs in = resolve(encoder_, index_, model_.memory.habits.on(), requests, people);
  const std::vector<float> vectors = queries_of(encoder_, index_, in, exec);
  const bool exclude_seen = options.exclude_seen.value_or(model_.exclude_seen_by_default);
  const auto dim = static_cast<size_t>(index_.dim());
  Masks masks(index_, options.where);
  std::vector<Query> queries(requests.size());
  std::vector<Answer> answers(requests.size());
  for (size_t r = 0; r < requests.size(); ++r) {
    Query& query = queries[r];
    query.vector = {vectors.data() + r * dim, dim};
    try {
      query.mask = masks.of(requests[r].where);
    } catch (const Error& e) {
      rethrow(e, place_of(requests, r));
    }
    for (const std::string& id : requests[r].exclude) {
      if (const int64_t row = index_.row(id); row >= 0) query.exclude.push_back(row);
    }
    if (exclude_seen) {
      query.exclude.insert(query.exclude.end(), in.seen[r].begin(), in.seen[r].end());
    }
    sort_unique(query.exclude);
    query.adjust = deltas_of(model_.memory, in, r);
    answers[r].eligible = count_eligible(index_, query);
  }
  std::vector<std::vector<Hit>> hits = index_.search(queries, options.k, exec);
  for (size_t r = 0; r < requests.size(); ++r) answers[r].hits = std::move(hits[r]);
  return answers;
}

std::vector<float> Recommender::encode_query(std::span<const Request> requests,
                                             const PeopleSource* people, const Exec& exec) const {
  const Inputs in = resolve(encoder_, index_, false, requests, people);
  return queries_of(encoder_, index_, in, exec);
}

std::vector<float> Recommender::encode_items(std::span<const std::string> ids,
                                             std::span<const Record> features,
                                             const Exec& exec) const {
  if (!ids.empty() && !features.empty() && ids.size() != features.size()) {
    throw Error(ErrorKind::kArgument, "expected as many ids as features, got " +
                                          std::to_string(ids.size()) + " and " +
                                          std::to_string(features.size()));
  }
  const size_t n = std::max(ids.size(), features.size());
  const auto dim = static_cast<size_t>(index_.dim());
  std::vector<float> vectors(n * dim);
  std::vector<size_t> places;  // of the items that must be encoded
  std::vector<const Record*> records;
  std::vector<int64_t> id_rows;
  for (size_t r = 0; r < n; ++r) {
    const int64_t row = ids.empty() ? -1 : index_.row(ids[r]);
    if (!ids.empty() && (features.empty() || features[r].empty())) {
      if (row < 0) unknown_item(index_, ids[r], "; give its features to encode a new item");
      std::copy_n(index_.vectors().row(row), dim, &vectors[r * dim]);
      continue;
    }
    places.push_back(r);
    records.push_back(&features[r]);
    id_rows.push_back(row < encoder_.id_rows() ? row : -1);
  }
  const auto place = [&](size_t i) { return place_in("items", places[i], n); };
  const Batch batch = encode_group(encoder_.features(), Group::kItem, records, {}, place);
  std::vector<float> encoded(places.size() * dim);
  encoder_.encode_items(batch, id_rows, {encoded.data(), batch.rows, index_.dim()}, exec);
  for (size_t i = 0; i < places.size(); ++i) {
    std::copy_n(&encoded[i * dim], dim, &vectors[places[i] * dim]);
  }
  return vectors;
}

std::vector<Answer> Recommender::similar(std::span<const std::string> items, int64_t k,
                                         const std::optional<Filter>& where,
                                         const Exec& exec) const {
  check_k(k);
  Masks masks(index_, where);
  const auto dim = static_cast<size_t>(index_.dim());
  std::vector<float> vectors(items.size() * dim);  // the bias, which is last, stays zero
  std::vector<Query> queries(items.size());
  std::vector<Answer> answers(items.size());
  for (size_t r = 0; r < items.size(); ++r) {
    const int64_t row = index_.row(items[r]);
    if (row < 0) unknown_item(index_, items[r], "");
    std::copy_n(index_.vectors().row(row), dim - 1, &vectors[r * dim]);
    queries[r].vector = {&vectors[r * dim], dim};
    queries[r].mask = masks.of(std::nullopt);
    queries[r].exclude = {row};
    answers[r].eligible = count_eligible(index_, queries[r]);
  }
  std::vector<std::vector<Hit>> hits = index_.search(queries, k, exec);
  for (size_t r = 0; r < items.size(); ++r) answers[r].hits = std::move(hits[r]);
  return answers;
}

std::vector<float> Recommender::score(std::span<const Request> requests,
                                      std::span<const std::vector<std::string>> items,
                                      const PeopleSource* people, const Exec& exec) const {
  if (items.size() != requests.size()) {
    throw Error(ErrorKind::kArgument, "expected one list of items per request, got " +
                                          std::to_string(items.size()) + " lists for " +
                                          std::to_string(requests.size()) + " requests");
  }
  const size_t m = items.empty() ? 0 : items[0].size();
  std::vector<int64_t> rows;
  for (const std::vector<std::string>& list : items) {
    if (list.size() != m) {
      throw Error(ErrorKind::kArgument, "expected lists of items of one length, got " +
                                            std::to_string(m) + " and " +
                                            std::to_string(list.size()));
    }
    for (const std::string& id : list) rows.push_back(index_.row(id));
  }
  const Inputs in = resolve(encoder_, index_, model_.memory.habits.on(), requests, people);
  const std::vector<float> queries = queries_of(encoder_, index_, in, exec);
  std::vector<float> scores(rows.size());
  const auto n = static_cast<int64_t>(requests.size());
  const auto width = static_cast<int64_t>(m);
  if (scores.empty()) return scores;
  score_pairs({queries.data(), n, index_.dim()}, index_.vectors(), {rows.data(), n, width},
              {scores.data(), n, width}, exec);
  for (size_t r = 0; r < requests.size(); ++r) {
    const ScoreDeltas deltas = deltas_of(model_.memory, in, r);
    for (size_t j = r * m; j < (r + 1) * m; ++j) {
      const auto found =
          std::lower_bound(deltas.begin(), deltas.end(), rows[j],
                           [](const auto& pair, int64_t row) { return pair.first < row; });
      if (found != deltas.end() && found->first == rows[j]) scores[j] += found->second;
    }
  }
  return scores;
}

}  // namespace hypertower
