#include "trainer/metrics.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <string>
#include <utility>

namespace hypertower {

RankMetrics::RankMetrics(std::vector<int64_t> lengths, int64_t catalogue_size)
    : lengths_(std::move(lengths)),
      hits_(lengths_.size()),
      gains_(lengths_.size()),
      reciprocals_(lengths_.size()),
      best_place_(static_cast<size_t>(catalogue_size), 0) {}

void RankMetrics::add(double rank, std::span<const int64_t> list) {
  ++events_;
  for (size_t i = 0; i < lengths_.size(); ++i) {
    if (rank <= 0 || rank > static_cast<double>(lengths_[i])) continue;
    hits_[i] += 1;
    gains_[i] += 1 / std::log2(rank + 1);
    reciprocals_[i] += 1 / rank;
  }
  for (size_t place = 0; place < list.size(); ++place) {
    int32_t& best = best_place_[static_cast<size_t>(list[place])];
    const auto here = static_cast<int32_t>(place) + 1;
    if (best == 0 || here < best) best = here;
  }
}

nlohmann::json RankMetrics::to_json() const {
  nlohmann::json out = nlohmann::json::object();
  const double n = std::max<double>(1, static_cast<double>(events_));
  for (size_t i = 0; i < lengths_.size(); ++i) {
    std::string at("@");
    at += std::to_string(lengths_[i]);
    const auto shown = std::count_if(best_place_.begin(), best_place_.end(), [&](int32_t place) {
      return place != 0 && place <= lengths_[i];
    });
    out["recall" + at] = hits_[i] / n;
    out["hit_rate" + at] = hits_[i] / n;
    out["ndcg" + at] = gains_[i] / n;
    out["mrr" + at] = reciprocals_[i] / n;
    out["coverage" + at] =
        best_place_.empty() ? 0.0
                            : static_cast<double>(shown) / static_cast<double>(best_place_.size());
  }
  out["events"] = events_;
  return out;
}

double rank_of(std::span<const float> scores, int64_t target, std::span<const int64_t> excluded,
               int64_t length, std::vector<int64_t>& top) {
  // The worst of the best so far on top: smallest score, of equals the largest item.
  using Entry = std::pair<float, int64_t>;
  const auto better = [](const Entry& a, const Entry& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  std::priority_queue<Entry, std::vector<Entry>, decltype(better)> best(better);
  const float own = scores[static_cast<size_t>(target)];
  int64_t greater = 0;
  int64_t equal = 0;
  bool allowed = true;
  size_t next = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(scores.size()); ++i) {
    while (next < excluded.size() && excluded[next] < i) ++next;
    if (next < excluded.size() && excluded[next] == i) {
      allowed = allowed && i != target;
      continue;
    }
    const float score = scores[static_cast<size_t>(i)];
    greater += score > own ? 1 : 0;
    equal += score == own ? 1 : 0;
    if (static_cast<int64_t>(best.size()) < length) {
      best.emplace(score, i);
    } else if (score > best.top().first) {
      best.pop();
      best.emplace(score, i);
    }
  }
  top.resize(best.size());
  for (size_t place = best.size(); place-- > 0; best.pop()) top[place] = best.top().second;
  return allowed ? 1 + static_cast<double>(greater) + static_cast<double>(equal - 1) / 2 : 0.0;
}

}  // namespace hypertower
