#include "server/protocol.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/error.h"
#include "model/event_check.h"
#include "model/history.h"
#include "model/json.h"
#include "server/json_writer.h"

namespace hypertower {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& path, const std::string& expected, const json& found) {
  throw Error(ErrorKind::kSchema, path + ": expected " + expected + ", got " + json_word(found),
              path);
}

std::string at(const std::string& path, size_t i) {
  return path + "[" + std::to_string(i) + "]";
}

void check_keys(const json& body, const std::vector<std::string>& known) {
  for (const auto& [key, value] : body.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw Error(ErrorKind::kSchema, key + ": unknown field." + name_hint(key, known), key);
    }
  }
}

const json* member(const json& body, const char* key) {
  const auto found = body.find(key);
  return found == body.end() || found->is_null() ? nullptr : &*found;
}

int64_t integer(const json& body, const char* key, int64_t fallback, int64_t least, int64_t most) {
  const json* found = member(body, key);
  if (found == nullptr) return fallback;
  const bool fits = found->is_number_integer() &&
                    (!found->is_number_unsigned() || found->get<uint64_t>() <= INT64_MAX);
  if (!fits || found->get<int64_t>() < least || found->get<int64_t>() > most) {
    const std::string range = most == INT64_MAX ? "an integer of at least " + std::to_string(least)
                                                : "an integer from " + std::to_string(least) +
                                                      " to " + std::to_string(most);
    fail(key, range, *found);
  }
  return found->get<int64_t>();
}

std::optional<bool> boolean(const json& body, const char* key) {
  const json* found = member(body, key);
  if (found == nullptr) return std::nullopt;
  if (!found->is_boolean()) fail(key, "true or false", *found);
  return found->get<bool>();
}

// The list at `key`, of 1 to `most` elements.
const json& list(const json& body, const char* key, const char* of, size_t most) {
  const auto found = body.find(key);
  const std::string expected = std::string("a list of 1 to ") + std::to_string(most) + " " + of;
  if (found == body.end()) fail(key, expected, nullptr);
  if (!found->is_array() || found->empty()) fail(key, expected, *found);
  if (found->size() > most) {
    throw Error(ErrorKind::kArgument,
                std::string(key) + ": expected " + expected + ", got " +
                    std::to_string(found->size()) + "; send them in several calls",
                key);
  }
  return *found;
}

void check_length(const std::string& id, const std::string& path) {
  if (id.size() > kMaxIdBytes) {
    throw Error(ErrorKind::kArgument,
                path + ": expected an id of at most " + std::to_string(kMaxIdBytes) +
                    " bytes, got " + std::to_string(id.size()),
                path);
  }
}

// The options that stand beside a list of requests hold for each of them.
void apply_to_all(const json& body, std::vector<Request>& requests) {
  std::vector<std::string> exclude;
  if (const json* ids = member(body, "exclude")) {
    if (!ids->is_array()) fail("exclude", "a list of item ids", *ids);
    for (size_t i = 0; i < ids->size(); ++i) {
      exclude.push_back(id_from_json((*ids)[i], at("exclude", i)));
    }
  }
  std::optional<Filter> where;
  if (const json* filter = member(body, "where")) where = filter_from_json(*filter, "where");
  for (Request& request : requests) {
    request.exclude.insert(request.exclude.end(), exclude.begin(), exclude.end());
    if (!where) continue;
    if (request.where) {
      Filter both;
      both.children = {*where, *std::move(request.where)};
      request.where = std::move(both);
    } else {
      request.where = where;
    }
  }
}

std::vector<Request> request_list(const json& body) {
  const json& elements = list(body, "requests", "requests", kMaxRequestsPerCall);
  std::vector<Request> requests;
  requests.reserve(elements.size());
  for (size_t i = 0; i < elements.size(); ++i) {
    requests.push_back(request_from_json(elements[i], {}, at("requests", i)));
  }
  return requests;
}

void write_hits(const Answer& answer, const Snapshot& snapshot, JsonWriter& out) {
  const Recommender& recommender = *snapshot.recommender;
  const bool integers = recommender.data().item_ids_are_integers;
  out.raw(R"("items":[)");
  for (size_t i = 0; i < answer.hits.size(); ++i) {
    out.raw(i == 0 ? R"({"id":)" : R"(,{"id":)");
    out.id(recommender.index().id(answer.hits[i].row), integers);
    out.raw(R"(,"score":)").real(answer.hits[i].score).raw("}");
  }
  out.raw(R"(],"count":)").integer(static_cast<int64_t>(answer.hits.size()));
  out.raw(R"(,"eligible":)").integer(answer.eligible);
}

void write_events(std::span<const HistoryEvent> events, const Snapshot& snapshot, JsonWriter& out) {
  const bool integers = snapshot.recommender->data().item_ids_are_integers;
  out.raw("[");
  for (size_t i = 0; i < events.size(); ++i) {
    json event = history_event_to_json(events[i]);
    event["item"] = id_to_json(events[i].item, integers);
    out.raw(i == 0 ? "" : ",").raw(event.dump());
  }
  out.raw("]");
}

}  // namespace

RecommendCall recommend_call(const json& body) {
  static const std::vector<std::string> kOptions = {"k", "exclude_seen", "min_seq", "timeout_ms"};
  static const std::vector<std::string> kManyKeys = {
      "requests", "k", "exclude_seen", "min_seq", "timeout_ms", "where", "exclude"};
  RecommendCall call;
  call.many = body.contains("requests");
  if (call.many) {
    check_keys(body, kManyKeys);
    call.requests = request_list(body);
    apply_to_all(body, call.requests);
  } else {
    call.requests.push_back(request_from_json(body, kOptions));
  }
  call.k = integer(body, "k", call.k, 1, kMaxK);
  if (call.k * static_cast<int64_t>(call.requests.size()) > kMaxAnswersPerCall) {
    throw Error(ErrorKind::kArgument,
                "k: expected at most " + std::to_string(kMaxAnswersPerCall) +
                    " answers in one call (requests times k), got " +
                    std::to_string(call.k * static_cast<int64_t>(call.requests.size())) +
                    "; send them in several calls",
                "k");
  }
  call.exclude_seen = boolean(body, "exclude_seen");
  call.min_seq = static_cast<uint64_t>(integer(body, "min_seq", 0, 0, INT64_MAX));
  if (member(body, "timeout_ms") != nullptr) {
    constexpr int64_t kMinute = 60'000;
    call.timeout = std::chrono::milliseconds(integer(body, "timeout_ms", 0, 1, kMinute));
  }
  return call;
}

std::string recommend_answer(const RecommendCall& call, const Snapshot& snapshot,
                             std::span<const Answer> answers) {
  std::string body;
  JsonWriter out(body);
  out.raw(R"({"model":)").text(snapshot.version).raw(",");
  if (!call.many) {
    write_hits(answers.front(), snapshot, out);
    out.raw(R"(,"degraded":[]})");
    return body;
  }
  out.raw(R"("responses":[)");
  for (size_t i = 0; i < answers.size(); ++i) {
    out.raw(i == 0 ? "{" : ",{");
    write_hits(answers[i], snapshot, out);
    out.raw(R"(,"degraded":[]})");
  }
  out.raw("]}");
  return body;
}

SimilarCall similar_call(const json& body) {
  static const std::vector<std::string> kKeys = {"item", "items", "k", "where"};
  check_keys(body, kKeys);
  SimilarCall call;
  call.many = body.contains("items");
  if (call.many == body.contains("item")) {
    throw Error(ErrorKind::kSchema, "the body: expected either 'item' or 'items', got " +
                                        std::string(call.many ? "both" : "neither"));
  }
  if (call.many) {
    const json& ids = list(body, "items", "item ids", kMaxRequestsPerCall);
    for (size_t i = 0; i < ids.size(); ++i) {
      call.items.push_back(id_from_json(ids[i], at("items", i)));
    }
  } else {
    call.items.push_back(id_from_json(body["item"], "item"));
  }
  call.k = integer(body, "k", call.k, 1, kMaxAnswersPerCall / int64_t{kMaxRequestsPerCall});
  if (const json* where = member(body, "where")) call.where = filter_from_json(*where, "where");
  return call;
}

std::string similar_answer(const SimilarCall& call, const Snapshot& snapshot,
                           std::span<const Answer> answers) {
  const bool integers = snapshot.recommender->data().item_ids_are_integers;
  std::string body;
  JsonWriter out(body);
  out.raw(R"({"model":)").text(snapshot.version).raw(",");
  if (call.many) out.raw(R"("responses":[)");
  for (size_t i = 0; i < answers.size(); ++i) {
    if (call.many) out.raw(i == 0 ? "{" : ",{");
    out.raw(R"("item":)").id(call.items[i], integers).raw(",");
    write_hits(answers[i], snapshot, out);
    if (call.many) out.raw("}");
  }
  out.raw(call.many ? "]}" : "}");
  return body;
}

EncodeCall encode_call(const json& body) {
  static const std::vector<std::string> kKeys = {"requests", "items"};
  check_keys(body, kKeys);
  EncodeCall call;
  const bool items = body.contains("items");
  if (items == body.contains("requests")) {
    throw Error(ErrorKind::kSchema, "the body: expected either 'requests' or 'items', got " +
                                        std::string(items ? "both" : "neither"));
  }
  if (!items) {
    call.requests = request_list(body);
    return call;
  }
  const json& elements = list(body, "items", "items", kMaxRequestsPerCall);
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string path = at("items", i);
    std::string& id = call.item_ids.emplace_back();
    Record& features = call.item_features.emplace_back();
    if (!elements[i].is_object()) {
      id = id_from_json(elements[i], path);
      continue;
    }
    for (const auto& [key, value] : elements[i].items()) {
      if (key == "item") {
        id = id_from_json(value, path + ".item");
      } else {
        features.emplace_back(key, value_from_json(value, path + "." + key));
      }
    }
  }
  return call;
}

std::string encode_answer(const Snapshot& snapshot, std::span<const float> vectors) {
  const auto dim = static_cast<size_t>(snapshot.recommender->index().dim());
  std::string body;
  JsonWriter out(body);
  out.raw(R"({"model":)").text(snapshot.version);
  out.raw(R"(,"dim":)").integer(static_cast<int64_t>(dim)).raw(R"(,"vectors":[)");
  for (size_t i = 0; i < vectors.size(); ++i) {
    if (i % dim == 0) out.raw(i == 0 ? "[" : ",[");
    out.raw(i % dim == 0 ? "" : ",").real(vectors[i]);
    if (i % dim == dim - 1) out.raw("]");
  }
  out.raw("]}");
  return body;
}

std::vector<Event> events_call(const json& body, const Snapshot& snapshot, double now) {
  static const std::vector<std::string> kKeys = {"events"};
  check_keys(body, kKeys);
  const json& elements = list(body, "events", "events", kMaxEventsPerCall);
  std::vector<Event> events;
  events.reserve(elements.size());
  const FeatureSpace& features = snapshot.recommender->encoder().features();
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string path = at("events", i);
    Event event = event_from_json(elements[i], path);
    check_length(event.user, path + ".user");
    check_length(event.what.item, path + ".item");
    check_length(event.what.kind, path + ".kind");
    check_length(event.id, path + ".id");
    if (!event.what.time) event.what.time = now;
    check_event(features, event.what, path);
    events.push_back(std::move(event));
  }
  return events;
}

ModelCall model_call(const json& body) {
  static const std::vector<std::string> kKeys = {"path", "rollback"};
  check_keys(body, kKeys);
  const bool rollback = boolean(body, "rollback").value_or(false);
  const json* path = member(body, "path");
  if (rollback == (path != nullptr)) {
    throw Error(ErrorKind::kSchema,
                "the body: expected either {\"path\": DIR} or {\"rollback\": true}, got " +
                    std::string(rollback ? "both" : "neither"));
  }
  if (rollback) return {};
  if (!path->is_string() || path->get_ref<const std::string&>().empty()) {
    fail("path", "the path of a model directory", *path);
  }
  return {path->get<std::string>()};
}

std::string model_answer(const Snapshot& snapshot, const Snapshot* previous, uint64_t seq) {
  const Recommender& recommender = *snapshot.recommender;
  const ModelData& data = recommender.data();
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(snapshot.loaded_at.time_since_epoch());
  const json answer = {
      {"model", snapshot.version},
      {"path", snapshot.path},
      {"loaded_at", seconds.count()},
      {"previous", previous == nullptr ? json() : json(previous->version)},
      {"items", recommender.index().size()},
      {"dim", recommender.index().dim()},
      {"people", data.people.size()},
      {"golden", data.golden.size()},
      {"exclude_seen_by_default", data.exclude_seen_by_default},
      {"data_fingerprint", data.data_fingerprint},
      {"metrics", data.metrics},
      {"schema", recommender.schema().to_json()},
      {"state", {{"seq", seq}}},
  };
  return answer.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string user_answer(const std::string& user, const Snapshot& snapshot,
                        const StoredEvents& stored) {
  const bool erased = (stored.flags & kErased) != 0;
  const Person* trained = erased ? nullptr : snapshot.person(user);
  std::vector<HistoryEvent> events;
  events.reserve(stored.events.size());
  for (const StoredEvent& event : stored.events) events.push_back(event.what);
  order_history(events);
  std::string body;
  JsonWriter out(body);
  out.raw(R"({"user":)").id(user, snapshot.recommender->data().user_ids_are_integers);
  out.raw(R"(,"known":)").raw(trained != nullptr || !events.empty() ? "true" : "false");
  out.raw(R"(,"events":)");
  write_events(events, snapshot, out);
  out.raw(R"(,"model":{"features":{)");
  if (trained != nullptr) {
    for (size_t i = 0; i < trained->features.size(); ++i) {
      const auto& [name, value] = trained->features[i];
      out.raw(i == 0 ? "" : ",").text(name).raw(":").raw(value_to_json(value).dump());
    }
  }
  out.raw(R"(},"events":)");
  write_events(trained != nullptr ? std::span<const HistoryEvent>(trained->history)
                                  : std::span<const HistoryEvent>(),
               snapshot, out);
  out.raw("}}");
  return body;
}

}  // namespace hypertower
