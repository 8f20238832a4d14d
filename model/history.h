// The order of what people did: the one definition for memory, the server's state and both towers.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "model/value.h"

namespace hypertower {

// Orders the stored events of one person, given in the order of their arrival, by time; equal times
// keep the order of arrival. An event without a time counts as happening when it arrived: right
// after all that had arrived before it. So a history without any times keeps its order.
void order_history(std::vector<HistoryEvent>& history);

// The part of an ordered history that lies strictly before `time`: what training and evaluation may
// read of it. nullopt: all of it, as serving does.
std::span<const HistoryEvent> history_before(std::span<const HistoryEvent> ordered,
                                             std::optional<double> time);

}  // namespace hypertower
