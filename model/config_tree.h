// A configuration (TOML file, JSON text or Python dict) as one JSON tree that remembers the file
// and line of every key, so that a message can name the place. Immutable after construction.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>

namespace hypertower {

class ConfigTree {
 public:
  // Throws Error(kIo / kData) for a missing file or broken TOML with file and line.
  static ConfigTree from_toml_file(const std::string& path);
  static ConfigTree from_toml_text(const std::string& text, const std::string& name);
  static ConfigTree from_json(nlohmann::json tree, const std::string& name);

  const nlohmann::json& root() const { return root_; }
  const std::string& name() const { return name_; }

  // Sets "training.lr" = text (parsed as a TOML value; bare words are text). For --set.
  void set(const std::string& dotted_path, const std::string& value_text);
  void set(const std::string& dotted_path, nlohmann::json value);

  // "movielens.toml:12", "movielens.toml" when the key has no line of its own, "the override of
  // training.lr" after set().
  std::string where(const std::string& dotted_path) const;
  // Line of the key, 0 when it has none: the order in which a person wrote the keys.
  int line(const std::string& dotted_path) const;

  // Throws Error(kSchema) for a key under `table` (dotted path, "" = root) that is not in `known`,
  // naming place and nearest key.
  void check_keys(const std::string& table, std::span<const std::string> known) const;

  // Typed access with a message that names place, key, expected and found type. The default is
  // returned when the key is absent.
  double number(const std::string& path, double fallback) const;
  int64_t integer(const std::string& path, int64_t fallback) const;
  bool boolean(const std::string& path, bool fallback) const;
  std::string text(const std::string& path, const std::string& fallback) const;
  bool has(const std::string& path) const;
  // The same with the bounds that the value must keep (inclusive), or the words it must be one of.
  double number(const std::string& path, double fallback, double min, double max) const;
  int64_t integer(const std::string& path, int64_t fallback, int64_t min, int64_t max) const;
  std::string choice(const std::string& path, const std::string& fallback,
                     std::span<const std::string> words) const;

 private:
  const nlohmann::json* find(const std::string& path) const;
  [[noreturn]] void fail(const std::string& path, const std::string& problem) const;

  nlohmann::json root_;
  std::string name_;
  std::map<std::string, int> lines_;
  std::set<std::string> overrides_;
};

}  // namespace hypertower
