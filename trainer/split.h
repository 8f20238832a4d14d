// Which events train, which stop the training early, which are reported on. Pure functions over
// events in time order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hypertower {

enum class Part : uint8_t { kTrain = 0, kValid = 1, kTest = 2 };

// The latest events are held out: `test_fraction` of all at the end, `valid_fraction` before them.
// `order` ascends; events of equal order stay in one part, the later of the two in question.
// Error(kData): nothing would be left to train on.
std::vector<Part> split_by_time(std::span<const double> order, double valid_fraction,
                                double test_fraction);

// Each user's last event is test, the one before valid; users with fewer than three events only
// train. `user` in time order, values in [0, num_users).
std::vector<Part> split_last(std::span<const int64_t> user, int64_t num_users);

// Of each user's events a share is test and a share is valid, rounded, drawn once for all runs; at
// least one stays to train on. `user`: values in [0, num_users).
std::vector<Part> split_random(std::span<const int64_t> user, int64_t num_users,
                               double valid_fraction, double test_fraction);

}  // namespace hypertower
