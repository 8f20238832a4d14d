#include "model/followers.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"

namespace hypertower {
namespace {

constexpr int kLatest = 5;       // items of the history
constexpr float kFading = 0.6F;  // of each compared with the one after it

}  // namespace

ScoreDeltas Followers::of(std::span<const int64_t> history, std::span<const float> weights) const {
  ScoreDeltas found;
  float fade = kFading;
  int left = kLatest;
  for (size_t e = history.size(); e-- > 0 && left > 0;) {
    if (!(weights[e] > 0.0F)) continue;
    const auto j = static_cast<size_t>(history[e]);
    if (j + 1 < offsets.size()) {
      for (int64_t at = offsets[j]; at < offsets[j + 1]; ++at) {
        const auto i = static_cast<size_t>(at);
        found.emplace_back(items[i], fade * shares[i]);
      }
    }
    fade *= kFading;
    --left;
  }
  add_up(found);
  return found;
}

float Followers::delta(float sum) const {
  return std::log1p(strength * sum);
}

void check_followers(const Followers& f, int64_t num_items) {
  const auto broken = [](const std::string& what) {
    throw Error(ErrorKind::kModel, "followers: " + what);
  };
  if (f.offsets.empty() || f.offsets.front() != 0 ||
      static_cast<int64_t>(f.offsets.size()) - 1 > num_items ||
      !std::is_sorted(f.offsets.begin(), f.offsets.end()) ||
      f.offsets.back() != static_cast<int64_t>(f.items.size()) ||
      f.items.size() != f.shares.size()) {
    broken("the offsets do not fit " + std::to_string(num_items) + " items and " +
           std::to_string(f.items.size()) + " followers with " + std::to_string(f.shares.size()) +
           " shares");
  }
  for (const int32_t item : f.items) {
    if (item < 0 || item >= num_items) {
      broken("an item is " + std::to_string(item) + ", expected 0 to " +
             std::to_string(num_items - 1));
    }
  }
  for (const float share : f.shares) {
    if (!(share >= 0.0F && share <= 1.0F)) {
      broken("a share is " + std::to_string(share) + ", expected 0 to 1");
    }
  }
  if (!(f.strength >= 0.0F) || !std::isfinite(f.strength)) {
    broken("the strength is " + std::to_string(f.strength) + ", expected 0 or more");
  }
}

}  // namespace hypertower
