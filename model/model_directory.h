// The model directory: what `train` writes and everything else reads.
//   manifest.json         format version, schema, architecture, metrics, checksums, fingerprint
//   weights.safetensors   tower tensors, vocabularies, quantile edges
//   items.safetensors     ids, vectors, attributes
//   followers.safetensors what people take after what, where that is of use
//   golden.json           requests with expected answers, checked at every load
//   people.jsonl          only with_history: features and events of known people
// Format in model/README.md. Written to a temporary name beside the target, fsynced, renamed; an
// existing directory is replaced atomically (exchange, then removal of the old one).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/encoder.h"
#include "model/features.h"
#include "model/index.h"
#include "model/memory.h"
#include "model/value.h"

namespace hypertower {

inline constexpr int kFormatVersion = 1;

struct Golden {
  Request request;  // always with explicit history and time, never a real person
  std::vector<float> query;
  std::vector<std::string> items;
  std::vector<float> scores;
};

struct Person {
  std::string user;
  Record features;
  std::vector<HistoryEvent> history;  // oldest first
};

struct ModelData {
  FeatureSpace features;
  Architecture architecture;
  Weights weights;
  Catalogue catalogue;
  MappedTiles tiles = {};  // of catalogue.vectors, when read from a directory that has them
  Memory memory = {};
  bool user_ids_are_integers = false;  // ids go out as they came in
  bool item_ids_are_integers = false;
  bool exclude_seen_by_default = false;                // derived from the data: repeats are rare
  nlohmann::json metrics = nlohmann::json::object();   // {"test": {...}, "baselines": {...}}
  nlohmann::json training = nlohmann::json::object();  // resolved settings, seed, seconds
  std::string data_fingerprint;
  std::vector<Golden> golden;
  std::vector<Person> people;  // written only when not empty
};

// Errors (kIo): disk full, permission; nothing is left behind and an old directory stays as it was.
void write_model_directory(const ModelData& model, const std::string& path);

// Throws what write_model_directory would throw for this path: a file, a directory with other
// files, a parent that is missing for good or not writable. To ask before hours of training; leaves
// nothing behind.
void check_model_target(const std::string& path);

// Errors (kModel), each its own sentence: missing directory or file, wrong version, checksum,
// truncated, NaN, tensor and schema that do not fit. Golden answers are the Recommender's check.
ModelData read_model_directory(const std::string& path);

// manifest.json and file sizes only (for `inspect`).
nlohmann::json inspect_model_directory(const std::string& path);

}  // namespace hypertower
