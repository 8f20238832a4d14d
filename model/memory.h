// What answers remember beside the towers: both parts are small sums that adjust the scores of a
// few items of a request, and retrieval stays exact.
#pragma once

#include "model/followers.h"
#include "model/habits.h"

namespace hypertower {

struct Memory {
  Followers followers = {};
  Habits habits = {};
};

}  // namespace hypertower
