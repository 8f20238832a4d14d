// What an event says of its moment, held against a model: the one check for live events, for the
// history of a request and for the server.
#pragma once

#include <string>

#include "model/features.h"
#include "model/value.h"

namespace hypertower {

// Error(kSchema, kNumeric) as FeatureSpace::encode throws for the context of `event`: an unknown
// field (with the nearest name), a wrong type, NaN. `path` of the event ("events[0]") goes before
// the field: "events[0].context.wether: unknown field. Did you mean 'weather'?"
void check_event(const FeatureSpace& features, const HistoryEvent& event, const std::string& path);

}  // namespace hypertower
