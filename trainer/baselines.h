// What a model must beat to be worth its trouble: popularity, recent popularity and item-kNN,
// measured on the same events with the same exclusions, ties at their mean rank.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "trainer/dataset.h"
#include "trainer/histories.h"

namespace hypertower {

// Scores of all items for the person and moment of one event. Immutable, thread-safe.
class Baseline {
 public:
  virtual ~Baseline() = default;
  virtual std::string name() const = 0;  // "popularity"
  // `scores` [items] is overwritten.
  virtual void score(int64_t event, std::span<float> scores) const = 0;
};

// Sum of event weights per item over the events of parts <= `last`.
std::vector<float> item_counts(const Dataset& data, Part last);
// The same over the latest tenth of those events.
std::vector<float> recent_item_counts(const Dataset& data, Part last);

// The three, fitted on the events of parts <= `last`. References must outlive them.
//   popularity, recent_popularity   the counts above
//   item_knn   score(i) = sum over distinct items j of the history of cos(i, j), where
//              cos(i, j) = #users with both / (sqrt(#users(i) #users(j)) + 20), the 200 nearest of
//              each j kept; ties by popularity. (Sarwar et al. 2001, with shrinkage.) With
//              `repeats` an item counts as its own neighbour, so that having had it speaks for
//              having it again.
std::vector<std::unique_ptr<Baseline>> fit_baselines(const Dataset& data,
                                                     const Histories& histories, Part last,
                                                     bool repeats);

// Metrics of one baseline on `events`. `exclude_seen` leaves out what the history holds; an event
// whose own item is left out is a miss.
nlohmann::json evaluate_baseline(const Baseline& baseline, const Dataset& data,
                                 const Histories& histories, std::span<const int64_t> events,
                                 std::span<const int64_t> lengths, bool exclude_seen, int threads);

}  // namespace hypertower
