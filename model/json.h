// JSON <-> requests, events and filters: the one definition of the shapes that the server, Python
// and golden.json share. Strict: unknown keys and wrong types throw Error(kSchema) with field path
// and nearest name.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "model/value.h"

namespace hypertower {

// {"user","time","context","features","history","where","exclude"}; other keys are refused unless
// listed in `also_allowed`. `path` ("requests[3]") goes before every field in messages, later ones
// about this request included.
Request request_from_json(const nlohmann::json& j, std::span<const std::string> also_allowed = {},
                          const std::string& path = {});
nlohmann::json request_to_json(const Request& request);
// {"user","item","kind","time","context","id"}; user and item are required.
// `path` as above.
Event event_from_json(const nlohmann::json& j, const std::string& path = {});
nlohmann::json history_event_to_json(const HistoryEvent& event);
HistoryEvent history_event_from_json(const nlohmann::json& j, const std::string& path);
// {"genre": ["Comedy"], "price": {"max": 30}, "not": {...}, "any": [{...}, {...}]}
Filter filter_from_json(const nlohmann::json& j, const std::string& path = "where");
nlohmann::json filter_to_json(const Filter& filter);
// Numbers, text, booleans (as text), null (missing) and flat lists of these. A list of numbers is a
// list of doubles, unless an integer in it does not fit one exactly: then a list of texts.
Value value_from_json(const nlohmann::json& j, const std::string& path);
nlohmann::json value_to_json(const Value& value);
// Ids as they came in: an integer when `integers` and the text is one.
nlohmann::json id_to_json(const std::string& id, bool integers);
// An id of a user, item or event: text or an integer (3.0 is 3, 3.5 is refused).
std::string id_from_json(const nlohmann::json& j, const std::string& path);
// What came, for messages: "nothing", "true", "5", "text 'abc'", "a list", "an object".
std::string json_word(const nlohmann::json& j);

}  // namespace hypertower
