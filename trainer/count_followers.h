// Counts model/followers.h from events.
#pragma once

#include <cstdint>

#include "model/followers.h"
#include "trainer/histories.h"

namespace hypertower {

// share(j, i) = C(j, i) / (sum of C(j, .) + 3), where C(j, i) grows by 1 / k whenever a person's
// event with i comes k = 1, 2 or 3 events after one with j (i != j). Events of parts up to `last`
// that histories show (weight above zero); events at the same moment do not follow each other.
// strength is zero. Memory while counting: 24 bytes an event.
Followers count_followers(const Events& events, const Histories& histories, int64_t num_users,
                          int64_t num_items, Part last);

}  // namespace hypertower
