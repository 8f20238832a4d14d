// JSON <-> requests, events and filters: the one definition of the shapes that the server, Python and
// golden.json share. Strict: unknown keys and wrong types throw Error(kSchema) with field path and
// nearest name.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model/value.h"

namespace hypertower {

// {"user","time","context","features","history","where","exclude"}; other keys are refused unless
// listed in `also_allowed`.
Request request_from_json(const nlohmann::json& j, std::span<const std::string> also_allowed = {});
nlohmann::json request_to_json(const Request& request);
// {"user","item","kind","time","context","id"}
Event event_from_json(const nlohmann::json& j);
nlohmann::json history_event_to_json(const HistoryEvent& event);
HistoryEvent history_event_from_json(const nlohmann::json& j, const std::string& path);
Filter filter_from_json(const nlohmann::json& j, const std::string& path = "where");
Value value_from_json(const nlohmann::json& j, const std::string& path);
nlohmann::json value_to_json(const Value& value);
// Ids as they came in: an integer when `integers` and the text is one.
nlohmann::json id_to_json(const std::string& id, bool integers);

}  // namespace hypertower
