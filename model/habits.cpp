#include "model/habits.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "kernels/error.h"

namespace hypertower {
bool alike(const FeatureColumn& a, int64_t row_a, const FeatureColumn& b, int64_t row_b) {
  const auto values = [](const FeatureColumn& column, int64_t row) {
    const auto r = static_cast<size_t>(row);
    if (r + 1 >= column.offsets.size()) return std::span<const int64_t>();
    const auto begin = static_cast<size_t>(column.offsets[r]);
    return std::span(column.values)
        .subspan(begin, static_cast<size_t>(column.offsets[r + 1]) - begin);
  };
  const auto x = values(a, row_a), y = values(b, row_b);
  return !x.empty() && std::equal(x.begin(), x.end(), y.begin(), y.end());
}

ScoreDeltas Habits::deltas(std::span<const PastEvent> past, const Batch& contexts,
                           const Batch& moments, int64_t moment) const {
  if (static_cast<int64_t>(past.size()) > kEvents) past = past.last(kEvents);
  ScoreDeltas sums;
  for (size_t j = 0; j < past.size(); ++j) {
    const auto later = static_cast<float>(past.size() - 1 - j);
    float log_share = -fading * std::log1p(later);
    for (size_t f = 0; f < match.size(); ++f) {
      if (match[f] != 0.0F &&
          alike(contexts.columns[f], past[j].context, moments.columns[f], moment)) {
        log_share += match[f];
      }
    }
    sums.emplace_back(past[j].item, past[j].weight * std::exp(log_share));
  }
  add_up(sums);
  for (auto& pair : sums) pair.second = weight * std::log1p(scale * pair.second);
  return sums;
}

void check_habits(const Habits& habits, size_t context_features) {
  const auto check = [](const char* what, float value) {
    if (std::isfinite(value) && value >= 0.0F) return;
    throw Error(ErrorKind::kModel, std::string("habits: ") + what + " is " + std::to_string(value) +
                                       ", expected 0 or more");
  };
  check("the weight", habits.weight);
  check("the scale", habits.scale);
  check("the fading", habits.fading);
  for (const float m : habits.match) check("a match", m);
  constexpr float kMost = 64.0F;  // exp() of it is far from the range of a float
  check("the room for matches, whose sum may be 64,",
        kMost - std::accumulate(habits.match.begin(), habits.match.end(), 0.0F));
  if (habits.on() && habits.match.size() != context_features) {
    throw Error(ErrorKind::kModel, "habits: " + std::to_string(habits.match.size()) +
                                       " matches, the schema has " +
                                       std::to_string(context_features) + " context features");
  }
}

}  // namespace hypertower
