// What is added to the scores of a few items of a request: pairs of item and delta.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace hypertower {

using ScoreDeltas = std::vector<std::pair<int64_t, float>>;

// Orders by item; those of one item are added up, the least first.
inline void add_up(ScoreDeltas& deltas) {
  std::sort(deltas.begin(), deltas.end());
  size_t kept = 0;
  for (size_t i = 0; i < deltas.size(); ++i) {
    if (kept > 0 && deltas[kept - 1].first == deltas[i].first) {
      deltas[kept - 1].second += deltas[i].second;
    } else {
      deltas[kept++] = deltas[i];
    }
  }
  deltas.resize(kept);
}

}  // namespace hypertower
