// What a user had done strictly before an event. Built once, O(events) memory; the rows themselves
// are made on the fly, so long histories cost nothing until they are read.
// Immutable after construction; thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/dataset.h"

namespace hypertower {

// Jagged histories of a list of events: oldest first, the latest `length` of them.
struct HistoryRows {
  std::vector<int64_t> items;
  std::vector<float> weights;
  std::vector<int64_t> kinds;  // rows of the table of kinds (model/history_transformer.h)
  std::vector<int64_t> ages;   // 0 = the latest event of its row
  std::vector<int64_t> offsets{0};

  int64_t rows() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

// The history of event e holds the events of the same user whose order is strictly smaller and
// whose part is not later (a training event never reads a held-out one, whatever its time).
class Histories {
 public:
  // Keeps a reference to `events`, which must outlive it and keep its parts. `kind_rows`: by the
  // number of the kind, its row of the table of kinds; empty where there is one kind.
  Histories(const Events& events, int64_t num_users, int64_t length,
            std::vector<int64_t> kind_rows = {});

  int64_t length() const { return length_; }
  void append(int64_t event, HistoryRows& out) const;
  HistoryRows of(std::span<const int64_t> event_rows) const;
  // Appends one event, whatever came before it, to the last row of `out`.
  void append_event(int64_t event, HistoryRows& out) const;
  // Rows of the latest events of the history, at most `most`, oldest first.
  std::vector<int64_t> latest(int64_t event, int64_t most) const;
  // Distinct items of the whole history of the event (not cut to `length`), ascending.
  void seen(int64_t event, std::vector<int64_t>& out) const;
  bool has_seen(int64_t event, int64_t item) const;
  // All events of a user, ascending.
  std::span<const int64_t> events_of(int64_t user) const;

 private:
  // Calls visit(earlier event) from the latest backwards until it returns false.
  template <class Visit>
  void walk_back(int64_t event, Visit&& visit) const;

  const Events& events_;
  int64_t length_;
  std::vector<int64_t> kind_rows_;
  std::vector<int64_t> by_user_;       // event rows, grouped by user, ascending
  std::vector<int64_t> user_offsets_;  // [users + 1]
  std::vector<int64_t> before_;  // per event: how many of the user's events are strictly earlier
};

// Share of the training events (of an even sample, when there are many) whose item the user had
// already had: how usual repeats are.
double repeat_share(const Events& events, const Histories& histories);

}  // namespace hypertower
