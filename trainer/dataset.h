// Events, items and users as numbers, encoded by the same feature code as requests when serving.
// Everything downstream (histories, baselines, batches, export) reads this one structure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/features.h"
#include "model/index.h"
#include "model/schema.h"
#include "trainer/config.h"
#include "trainer/split.h"
#include "trainer/train.h"

namespace hypertower {

// Ids as text in order of first appearance, with their numbers.
class IdMap {
 public:
  int64_t add(const std::string& id);         // the number, new or old
  int64_t find(const std::string& id) const;  // -1 when unknown
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  const std::vector<std::string>& ids() const { return ids_; }
  // A table said that (some of) these ids are text: they stay text, whatever they look like.
  void declare_text() { declared_text_ = true; }
  bool declared_text() const { return declared_text_; }
  // Whether ids go out as integers, so that they go out as they came in: all of them read as 64-bit
  // integers and no table declared them text. Of CSV files, which have no types, this is a guess.
  bool all_integers() const;

 private:
  bool declared_text_ = false;
  std::vector<std::string> ids_;
  std::unordered_map<std::string, int64_t> rows_;
};

// Events in order: by time, else by position, else by row; equal keys keep the order of the rows.
// Events of one user with an equal key are simultaneous: neither is history of the other.
struct Events {
  std::vector<int64_t> user;
  std::vector<int64_t> item;
  std::vector<double> order;          // ascending
  std::vector<double> time;           // seconds; empty when the data has no time
  std::vector<float> weight;          // in the loss: [kinds] times the weight column
  std::vector<float> history_weight;  // in histories: [kinds]
  std::vector<int32_t> kind;          // into Dataset::kinds; empty when there is one kind
  std::vector<Part> part;
  Batch context;  // schema order

  int64_t size() const { return static_cast<int64_t>(user.size()); }
};

struct Dataset {
  FeatureSpace features;
  IdMap users;
  IdMap items;  // the catalogue: rows of the items file, then items that only events name
  std::vector<std::string> kinds;
  Batch user_features;                // one row per user
  Batch item_features;                // one row per item
  std::vector<Record> user_records;   // as read, for people
  std::vector<Attribute> attributes;  // of items, for filters
  Events events;
  nlohmann::json counts;    // {"events", "users", "items", "train_events", "valid_events", ...}
  std::string fingerprint;  // of the data as encoded

  int64_t count(Part part) const;
};

// Errors as train.h says. Findings (dropped events, sorting) go to `observer`.
Dataset load_dataset(const Schema& schema, const DataConfig& config, const TrainData& data,
                     TrainObserver& observer);

}  // namespace hypertower
