// A person as the recommender reads them: what the model directory holds, then what was observed
// since. Lives for one batch; thread-safe as its parts are.
#pragma once

#include <optional>
#include <string>

#include "model/recommender.h"
#include "server/snapshot.h"
#include "server/state_store.h"

namespace hypertower {

class LivePeople : public PeopleSource {
 public:
  // Both must outlive this.
  LivePeople(const Snapshot& snapshot, const StateStore& store)
      : snapshot_(snapshot), store_(store) {}

  // An observed event that the model directory has too (same item and time: the model was trained
  // on it meanwhile) counts once. Of an erased person only what came after counts. The history is
  // in order (order_history): arrived are first the model's events, then the observed ones.
  std::optional<Person> find(const std::string& user) const override;

 private:
  const Snapshot& snapshot_;
  const StateStore& store_;
};

}  // namespace hypertower
