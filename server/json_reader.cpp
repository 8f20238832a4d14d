#include "server/json_reader.h"

#include <simdjson.h>

#include "model/json.h"
#include "server/http_message.h"

namespace hypertower {
namespace {

using nlohmann::json;

// Where a value sits, as links through the stack of the recursion: costs nothing until an error.
struct Place {
  const Place* parent = nullptr;
  std::string_view key;
  size_t position = 0;

  std::string path() const {
    if (parent == nullptr) return {};
    std::string out = parent->path();
    if (key.data() == nullptr) return out + "[" + std::to_string(position) + "]";
    return out.empty() ? std::string(key) : out + "." + std::string(key);
  }
};

json to_tree(const simdjson::dom::element& element, const Place& place);

json object_tree(const simdjson::dom::object& object, const Place& place) {
  json tree = json::object();
  auto& members = tree.get_ref<json::object_t&>();
  for (const auto& [key, value] : object) {
    const Place here{&place, key, 0};
    if (!members.emplace(std::string(key), to_tree(value, here)).second) {
      const std::string path = here.path();
      throw HttpError(400, "duplicate_key", path + ": expected once, got twice", path);
    }
  }
  return tree;
}

json array_tree(const simdjson::dom::array& array, const Place& place) {
  json tree = json::array();
  size_t position = 0;
  for (const auto& value : array) {
    tree.push_back(to_tree(value, Place{&place, {}, position++}));
  }
  return tree;
}

json to_tree(const simdjson::dom::element& element, const Place& place) {
  using Type = simdjson::dom::element_type;
  switch (element.type()) {
    case Type::OBJECT:
      return object_tree(element.get_object().value_unsafe(), place);
    case Type::ARRAY:
      return array_tree(element.get_array().value_unsafe(), place);
    case Type::INT64:
      return element.get_int64().value_unsafe();
    case Type::UINT64:
      return element.get_uint64().value_unsafe();
    case Type::DOUBLE:
      return element.get_double().value_unsafe();
    case Type::STRING:
      return std::string(element.get_string().value_unsafe());
    case Type::BOOL:
      return element.get_bool().value_unsafe();
    case Type::NULL_VALUE:
      return nullptr;
  }
  return nullptr;
}

[[noreturn]] void throw_not_json(simdjson::error_code error, const std::string& body) {
  if (error == simdjson::MEMALLOC) throw std::bad_alloc();
  if (error == simdjson::DEPTH_ERROR) {
    throw HttpError(400, "too_deep",
                    "the body: expected JSON at most " + std::to_string(JsonReader::kMaxDepth) +
                        " levels deep, got more");
  }
  if (error == simdjson::UTF8_ERROR) {
    throw HttpError(400, "not_json", "the body: expected UTF-8, got other bytes");
  }
  // simdjson does not say where; on this slow path a second parser does.
  std::string what = "the body: expected numbers that fit 64 bits, got a larger one";
  try {
    const json tree = json::parse(body);
  } catch (const json::exception& broken) {
    if (const auto* parse = dynamic_cast<const json::parse_error*>(&broken)) {
      what = "the body: expected JSON, got text that is not JSON at byte " +
             std::to_string(parse->byte);
    }
  }
  throw HttpError(400, "not_json", what);
}

}  // namespace

struct JsonReader::Parser {
  simdjson::dom::parser dom;
};

JsonReader::JsonReader() : parser_(std::make_unique<Parser>()) {
  constexpr size_t kFirstCapacity = 4096;
  if (parser_->dom.allocate(kFirstCapacity, kMaxDepth) != simdjson::SUCCESS) throw std::bad_alloc();
}

JsonReader::~JsonReader() = default;

json JsonReader::read_object(const std::string& body) {
  simdjson::dom::element document;
  const auto error = parser_->dom.parse(body).get(document);
  if (error == simdjson::EMPTY) {
    throw HttpError(400, "not_json", "the body: expected a JSON object, got nothing");
  }
  if (error != simdjson::SUCCESS) throw_not_json(error, body);
  json tree = to_tree(document, Place{});
  if (!tree.is_object()) {
    throw HttpError(400, "schema", "the body: expected an object, got " + json_word(tree));
  }
  return tree;
}

}  // namespace hypertower
