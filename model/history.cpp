#include "model/history.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace hypertower {

void order_history(std::vector<HistoryEvent>& history) {
  // The moment of each event; of one without a time the latest that arrived before it.
  std::vector<std::pair<double, size_t>> moments;
  moments.reserve(history.size());
  double latest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < history.size(); ++i) {
    moments.emplace_back(history[i].time.value_or(latest), i);
    latest = std::max(latest, moments.back().first);
  }
  if (std::is_sorted(moments.begin(), moments.end())) return;  // nearly always
  std::sort(moments.begin(), moments.end());
  std::vector<HistoryEvent> ordered;
  ordered.reserve(history.size());
  for (const auto& [moment, i] : moments) ordered.push_back(std::move(history[i]));
  history = std::move(ordered);
}

std::span<const HistoryEvent> history_before(std::span<const HistoryEvent> ordered,
                                             std::optional<double> time) {
  if (!time) return ordered;
  const auto end = std::find_if(ordered.begin(), ordered.end(), [&](const HistoryEvent& event) {
    return event.time.has_value() && *event.time >= *time;
  });
  return {ordered.begin(), end};
}

}  // namespace hypertower
