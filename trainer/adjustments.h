// What the memory (model/memory.h) adds to the scores of events, as the serving code would.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/memory.h"
#include "trainer/inputs.h"

namespace hypertower {

// Jagged: the items of each event whose scores change, ascending, and by how much. On the CPU.
struct Adjustments {
  std::vector<int64_t> items;
  std::vector<float> deltas;
  std::vector<int64_t> offsets{0};
};
Adjustments adjustments(const Memory& memory, const TrainingInputs& inputs,
                        std::span<const int64_t> events);

// The latest Habits::kEvents events that the history of an event holds, oldest first; their
// contexts are rows of inputs.data.events.context.
std::vector<PastEvent> past_of(const TrainingInputs& inputs, int64_t event);

}  // namespace hypertower
