#include "trainer/split.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "trainer/text.h"

namespace hypertower {

std::vector<Part> split_by_time(std::span<const double> order, double valid_fraction,
                                double test_fraction) {
  const auto n = static_cast<int64_t>(order.size());
  // The first event of the group that event `n - fraction * n` belongs to.
  const auto boundary = [&](double held_out) {
    const int64_t cut = n - std::llround(held_out * static_cast<double>(n));
    if (cut >= n) return n;
    return static_cast<int64_t>(
        std::lower_bound(order.begin(), order.end(), order[static_cast<size_t>(cut)]) -
        order.begin());
  };
  const int64_t test = boundary(test_fraction);
  const int64_t valid = std::min(test, boundary(valid_fraction + test_fraction));
  if (valid == 0) {
    throw Error(ErrorKind::kData,
                concat("data.split = \"time\" leaves none of the ", n,
                       " events to train on, because too many share one time; use split = \"last\" "
                       "or give a finer time column."),
                "data.split");
  }
  std::vector<Part> parts(order.size(), Part::kTrain);
  std::fill(parts.begin() + valid, parts.begin() + test, Part::kValid);
  std::fill(parts.begin() + test, parts.end(), Part::kTest);
  return parts;
}

std::vector<Part> split_last(std::span<const int64_t> user, int64_t num_users) {
  std::vector<int64_t> count(static_cast<size_t>(num_users), 0);
  for (const int64_t u : user) ++count[static_cast<size_t>(u)];
  std::vector<int64_t> seen(count.size(), 0);
  std::vector<Part> parts(user.size(), Part::kTrain);
  for (size_t e = 0; e < user.size(); ++e) {
    const auto u = static_cast<size_t>(user[e]);
    const int64_t left = count[u] - ++seen[u];
    if (count[u] < 3) continue;
    if (left == 0) parts[e] = Part::kTest;
    if (left == 1) parts[e] = Part::kValid;
  }
  return parts;
}

}  // namespace hypertower
