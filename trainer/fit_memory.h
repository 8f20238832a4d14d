// Fits the memory (model/memory.h) of trained towers on validation events, which they have not
// seen.
#pragma once

#include <cstdint>
#include <span>

#include "model/memory.h"
#include "trainer/evaluate.h"

namespace hypertower {

// What something is worth: the gain (trainer/evaluate.h) of validation events with and without it.
struct Worth {
  double without = 0;
  double with = 0;
};

// Sets memory.followers.strength, of 0 (off), 25, 50 ... 800, to what gains most; off unless that
// is half a per cent more than without. The followers must not have been counted on these events.
Worth choose_strength(TwoTower& towers, const TrainingInputs& inputs,
                      std::span<const int64_t> events, bool exclude_seen, Memory& memory);

// Sets memory.habits by maximum likelihood over the whole catalogue on every other event (of at
// most 4,096), judged on the rest; off unless the gain there is half a per cent more than without.
Worth fit_habits(TwoTower& towers, const TrainingInputs& inputs, std::span<const int64_t> events,
                 Memory& memory);

}  // namespace hypertower
