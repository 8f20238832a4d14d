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

// The part of an ordered history that a request at `time` may read: the events strictly before it,
// as in training. nullopt (the request says no time): all of them.
std::span<const HistoryEvent> history_before(std::span<const HistoryEvent> ordered,
                                             std::optional<double> time);

}  // namespace hypertower
