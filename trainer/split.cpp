#include "trainer/split.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/error.h"
#include "trainer/random.h"
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

std::vector<Part> split_random(std::span<const int64_t> user, int64_t num_users,
                               double valid_fraction, double test_fraction) {
  constexpr uint64_t kSeed = 0;  // not training's: runs are compared on the same events
  constexpr uint64_t kStream = 7;
  const CounterRandom random(kSeed, kStream);
  std::vector<std::vector<std::pair<uint64_t, size_t>>> drawn(static_cast<size_t>(num_users));
  for (size_t e = 0; e < user.size(); ++e) {
    drawn[static_cast<size_t>(user[e])].emplace_back(random.bits(e), e);
  }
  std::vector<Part> parts(user.size(), Part::kTrain);
  for (auto& own : drawn) {
    if (own.empty()) continue;
    std::sort(own.begin(), own.end());
    const auto n = static_cast<double>(own.size());
    const auto most = static_cast<int64_t>(own.size()) - 1;
    const auto share = [&](double of) { return static_cast<int64_t>(std::llround(of * n)); };
    const int64_t test = std::min(share(test_fraction), most);
    const int64_t held = std::min(test + share(valid_fraction), most);
    for (int64_t i = 0; i < held; ++i) {
      parts[own[static_cast<size_t>(i)].second] = i < test ? Part::kTest : Part::kValid;
    }
  }
  return parts;
}

}  // namespace hypertower
