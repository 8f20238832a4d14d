// The messages of the HTTP interface. Requests, events and filters are those of model/json.h; here
// is what surrounds them, and how answers are written. Pure functions, thread-safe.
//
// Every reader throws Error(kSchema) with the path of the field for an unknown key (nearest name)
// or a wrong type, and Error(kArgument) for a value out of range.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/recommender.h"
#include "server/event_codec.h"
#include "server/snapshot.h"

namespace hypertower {

inline constexpr int64_t kMaxK = 10'000;
inline constexpr size_t kMaxRequestsPerCall = 1'024;
inline constexpr int64_t kMaxAnswersPerCall = 1'000'000;  // requests x k
inline constexpr size_t kMaxEventsPerCall = 10'000;
inline constexpr size_t kMaxIdBytes = 512;

// POST /v1/recommend: one request with the options beside its fields, or {"requests": [...]} with
// the options of all beside it.
struct RecommendCall {
  std::vector<Request> requests;
  bool many = false;  // answered as {"responses": [...]}
  int64_t k = 10;
  std::optional<bool> exclude_seen;  // nullopt: the model's default
  uint64_t min_seq = 0;              // answer only from a state that holds this event
  std::optional<std::chrono::milliseconds> timeout;
};
RecommendCall recommend_call(const nlohmann::json& body);
// One answer per request.
std::string recommend_answer(const RecommendCall& call, const Snapshot& snapshot,
                             std::span<const Answer> answers);

// POST /v1/similar: {"item"} or {"items": [...]}, with "k" and "where".
struct SimilarCall {
  std::vector<std::string> items;
  bool many = false;
  int64_t k = 10;
  std::optional<Filter> where;
};
SimilarCall similar_call(const nlohmann::json& body);
std::string similar_answer(const SimilarCall& call, const Snapshot& snapshot,
                           std::span<const Answer> answers);

// POST /v1/encode: {"requests": [...]} or {"items": [...]}; an item is an id or an object of "item"
// (optional) and item features.
struct EncodeCall {
  std::vector<Request> requests;
  std::vector<std::string> item_ids;  // "" = none given
  std::vector<Record> item_features;  // as many as item_ids
};
EncodeCall encode_call(const nlohmann::json& body);
std::string encode_answer(const Snapshot& snapshot, std::span<const float> vectors);

// POST /v1/events: {"events": [...]}. An event without a time happens `now`. Context fields are
// checked against the model's schema.
std::vector<Event> events_call(const nlohmann::json& body, const Snapshot& snapshot, double now);

// POST /v1/model: {"path": DIR} or {"rollback": true}.
struct ModelCall {
  std::string path;  // empty = rollback
};
ModelCall model_call(const nlohmann::json& body);
// GET /v1/model.
std::string model_answer(const Snapshot& snapshot, const Snapshot* previous, uint64_t seq);

// GET /v1/users/{id}: what the model directory and the state hold of a person, each in the order
// that an answer reads them (model/history.h).
std::string user_answer(const std::string& user, const Snapshot& snapshot,
                        const StoredEvents& stored);

}  // namespace hypertower
