// Bytes of a request body -> JSON tree. simdjson parses (UTF-8 checked, nothing after the document,
// no number that overflows); the tree is nlohmann's, so that the server reads requests with the
// same code as everything else (model/json.h). On top of the grammar: no duplicate keys, bounded
// depth.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace hypertower {

// Keeps the parser's buffers between bodies. One per thread: not thread-safe.
class JsonReader {
 public:
  JsonReader();
  ~JsonReader();
  // Throws HttpError(400): an empty body, text that is not JSON (with the byte), deeper than
  // kMaxDepth, a key twice in one object (with its path), a document that is not an object.
  nlohmann::json read_object(const std::string& body);

  static constexpr size_t kMaxDepth = 64;

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace hypertower
