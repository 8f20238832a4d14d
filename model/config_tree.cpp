#include "model/config_tree.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <system_error>
#include <utility>

#define TOML_HEADER_ONLY 1
// toml++ asserts on some malformed texts that it goes on to report as errors; a text is never a
// reason to abort. The mutation tests walk over them under AddressSanitizer.
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

#include "kernels/error.h"
#include "model/file_io.h"
#include "model/json.h"

namespace hypertower {
namespace {

using nlohmann::json;

std::string join(const std::string& table, std::string_view key) {
  return table.empty() ? std::string(key) : table + "." + std::string(key);
}

json convert(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json object = json::object();
    for (const auto& [key, value] : *table) object[std::string(key.str())] = convert(value);
    return object;
  }
  if (const auto* array = node.as_array()) {
    json list = json::array();
    for (const auto& value : *array) list.push_back(convert(value));
    return list;
  }
  if (const auto value = node.value_exact<bool>()) return *value;
  if (const auto value = node.value_exact<int64_t>()) return *value;
  if (const auto value = node.value_exact<double>()) return *value;
  if (const auto value = node.value_exact<std::string>()) return *value;
  std::ostringstream text;  // dates and times: as they were written
  node.visit([&text](const auto& n) {
    if constexpr (toml::is_value<decltype(n)>) text << *n;
  });
  return text.str();
}

void collect_lines(const toml::table& table, const std::string& path,
                   std::map<std::string, int>& lines) {
  for (const auto& [key, value] : table) {
    const std::string here = join(path, key.str());
    lines[here] = static_cast<int>(key.source().begin.line);
    if (const auto* child = value.as_table()) collect_lines(*child, here, lines);
  }
}

std::string place(const std::string& name, uint32_t line) {
  return line > 0 ? name + ":" + std::to_string(line) : name;
}

std::string bound(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace

ConfigTree ConfigTree::from_toml_file(const std::string& path) {
  try {
    return from_toml_text(read_file(path), path);
  } catch (const std::system_error& e) {
    throw Error(ErrorKind::kIo, "cannot read the configuration '" + path +
                                    "': " + e.code().message() + ". Check the path.");
  }
}

ConfigTree ConfigTree::from_toml_text(const std::string& text, const std::string& name) {
  ConfigTree tree;
  tree.name_ = name;
  try {
    const toml::table table = toml::parse(text, name);
    tree.root_ = convert(table);
    collect_lines(table, "", tree.lines_);
  } catch (const toml::parse_error& e) {
    throw Error(ErrorKind::kData, place(name, e.source().begin.line) +
                                      ": not valid TOML: " + std::string(e.description()));
  }
  return tree;
}

ConfigTree ConfigTree::from_json(json tree, const std::string& name) {
  if (!tree.is_object()) {
    throw Error(ErrorKind::kSchema,
                name + ": a configuration is an object of sections, got " + json_word(tree));
  }
  ConfigTree result;
  result.root_ = std::move(tree);
  result.name_ = name;
  return result;
}

void ConfigTree::set(const std::string& dotted_path, const std::string& value_text) {
  json value;
  try {
    const toml::table parsed = toml::parse("value = " + value_text);
    value = parsed.size() == 1 ? convert(*parsed.get("value")) : json(value_text);
  } catch (const toml::parse_error&) {
    value = value_text;  // a bare word is text, as in --set training.loss=sampled_softmax
  }
  set(dotted_path, std::move(value));
}

void ConfigTree::set(const std::string& dotted_path, json value) {
  json* node = &root_;
  std::string here;
  std::istringstream parts(dotted_path);
  for (std::string key; std::getline(parts, key, '.');) {
    if (!node->is_object()) {
      throw Error(
          ErrorKind::kSchema,
          "cannot set " + dotted_path + ": " + here + " is no section but " + json_word(*node),
          dotted_path);
    }
    here = join(here, key);
    const auto [entry, added] = node->emplace(key, json::object());
    if (added) overrides_.insert(here);
    node = &*entry;
  }
  if (here.empty() || here != dotted_path) {
    throw Error(ErrorKind::kSchema,
                "cannot set '" + dotted_path + "': expected section.key, for example training.lr");
  }
  *node = std::move(value);
  overrides_.insert(dotted_path);
}

std::string ConfigTree::where(const std::string& dotted_path) const {
  if (overrides_.contains(dotted_path)) return "the override of " + dotted_path;
  return place(name_, static_cast<uint32_t>(line(dotted_path)));
}

int ConfigTree::line(const std::string& dotted_path) const {
  const auto found = lines_.find(dotted_path);
  return found == lines_.end() || overrides_.contains(dotted_path) ? 0 : found->second;
}

void ConfigTree::check_keys(const std::string& table, std::span<const std::string> known) const {
  const json* node = table.empty() ? &root_ : find(table);
  if (node == nullptr) return;
  if (!node->is_object())
    fail(table, "expected a section [" + table + "], got " + json_word(*node));
  for (const auto& [key, value] : node->items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string path = join(table, key);
    const std::string what = table.empty() ? (value.is_object() ? "unknown section [" + key + "]"
                                                                : "unknown key '" + key + "'")
                                           : "unknown key '" + key + "' in [" + table + "]";
    throw Error(ErrorKind::kSchema, where(path) + ": " + what + "." + name_hint(key, known), path);
  }
}

double ConfigTree::number(const std::string& path, double fallback) const {
  const json* node = find(path);
  if (node == nullptr) return fallback;
  if (!node->is_number()) fail(path, "expected a number, got " + json_word(*node));
  const double value = node->get<double>();
  if (!std::isfinite(value)) fail(path, "expected a finite number, got " + json_word(*node));
  return value;
}

int64_t ConfigTree::integer(const std::string& path, int64_t fallback) const {
  const json* node = find(path);
  if (node == nullptr) return fallback;
  if (!node->is_number_integer()) fail(path, "expected an integer, got " + json_word(*node));
  if (node->is_number_unsigned() && node->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    fail(path, "expected an integer below 2^63, got " + json_word(*node));
  }
  return node->get<int64_t>();
}

bool ConfigTree::boolean(const std::string& path, bool fallback) const {
  const json* node = find(path);
  if (node == nullptr) return fallback;
  if (!node->is_boolean()) fail(path, "expected true or false, got " + json_word(*node));
  return node->get<bool>();
}

std::string ConfigTree::text(const std::string& path, const std::string& fallback) const {
  const json* node = find(path);
  if (node == nullptr) return fallback;
  if (!node->is_string()) fail(path, "expected text, got " + json_word(*node));
  return node->get<std::string>();
}

bool ConfigTree::has(const std::string& path) const {
  return find(path) != nullptr;
}

double ConfigTree::number(const std::string& path, double fallback, double min, double max) const {
  const double value = number(path, fallback);
  if (value < min || value > max) {
    fail(path, "expected " + bound(min) + " to " + bound(max) + ", got " + bound(value));
  }
  return value;
}

int64_t ConfigTree::integer(const std::string& path, int64_t fallback, int64_t min,
                            int64_t max) const {
  const int64_t value = integer(path, fallback);
  if (value < min || value > max) {
    fail(path, "expected " + std::to_string(min) + " to " + std::to_string(max) + ", got " +
                   std::to_string(value));
  }
  return value;
}

std::string ConfigTree::choice(const std::string& path, const std::string& fallback,
                               std::span<const std::string> words) const {
  std::string value = text(path, fallback);
  if (std::find(words.begin(), words.end(), value) == words.end()) {
    fail(path, "unknown value '" + value + "'." + name_hint(value, words));
  }
  return value;
}

const json* ConfigTree::find(const std::string& path) const {
  const json* node = &root_;
  std::istringstream parts(path);
  for (std::string key; std::getline(parts, key, '.');) {
    if (!node->is_object()) return nullptr;
    const auto child = node->find(key);
    if (child == node->end()) return nullptr;
    node = &*child;
  }
  return node;
}

void ConfigTree::fail(const std::string& path, const std::string& problem) const {
  // where() names the key itself only for an override.
  const bool named = overrides_.contains(path);
  throw Error(ErrorKind::kSchema, where(path) + ": " + (named ? "" : path + ": ") + problem, path);
}

}  // namespace hypertower
