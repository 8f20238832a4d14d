#include "trainer/histories.h"

#include <algorithm>
#include <utility>

namespace hypertower {

Histories::Histories(const Events& events, int64_t num_users, int64_t length,
                     std::vector<int64_t> kind_rows)
    : events_(events),
      length_(length),
      kind_rows_(std::move(kind_rows)),
      user_offsets_(static_cast<size_t>(num_users) + 1, 0) {
  const auto n = static_cast<size_t>(events.size());
  for (const int64_t u : events.user) ++user_offsets_[static_cast<size_t>(u) + 1];
  for (size_t u = 1; u < user_offsets_.size(); ++u) user_offsets_[u] += user_offsets_[u - 1];
  by_user_.resize(n);
  before_.resize(n);
  std::vector<int64_t> filled(user_offsets_.begin(), user_offsets_.end() - 1);
  for (size_t e = 0; e < n; ++e) {
    const auto u = static_cast<size_t>(events.user[e]);
    const int64_t place = filled[u]++;
    by_user_[static_cast<size_t>(place)] = static_cast<int64_t>(e);
    before_[e] = place - user_offsets_[u];
    if (before_[e] == 0) continue;
    const auto previous = static_cast<size_t>(by_user_[static_cast<size_t>(place) - 1]);
    if (events.order[previous] == events.order[e]) before_[e] = before_[previous];
  }
}

std::span<const int64_t> Histories::events_of(int64_t user) const {
  const auto u = static_cast<size_t>(user);
  return std::span(by_user_).subspan(static_cast<size_t>(user_offsets_[u]),
                                     static_cast<size_t>(user_offsets_[u + 1] - user_offsets_[u]));
}

template <class Visit>
void Histories::walk_back(int64_t event, Visit&& visit) const {
  const auto e = static_cast<size_t>(event);
  const auto past = events_of(events_.user[e]).first(static_cast<size_t>(before_[e]));
  for (size_t i = past.size(); i-- > 0;) {
    const auto earlier = static_cast<size_t>(past[i]);
    if (events_.part[earlier] <= events_.part[e] && !visit(earlier)) return;
  }
}

void Histories::append_event(int64_t event, HistoryRows& out) const {
  const auto e = static_cast<size_t>(event);
  out.items.push_back(events_.item[e]);
  out.weights.push_back(events_.history_weight[e]);
  out.kinds.push_back(kind_rows_.empty() ? 0 : kind_rows_[static_cast<size_t>(events_.kind[e])]);
}

void Histories::append(int64_t event, HistoryRows& out) const {
  const std::vector<int64_t> rows = latest(event, length_);
  for (size_t i = 0; i < rows.size(); ++i) {
    append_event(rows[i], out);
    out.ages.push_back(static_cast<int64_t>(rows.size() - 1 - i));
  }
  out.offsets.push_back(static_cast<int64_t>(out.items.size()));
}

HistoryRows Histories::of(std::span<const int64_t> event_rows) const {
  HistoryRows out;
  for (const int64_t e : event_rows) append(e, out);
  return out;
}

std::vector<int64_t> Histories::latest(int64_t event, int64_t most) const {
  std::vector<int64_t> rows;
  walk_back(event, [&](size_t earlier) {
    rows.push_back(static_cast<int64_t>(earlier));
    return static_cast<int64_t>(rows.size()) < most;
  });
  std::reverse(rows.begin(), rows.end());
  return rows;
}

void Histories::seen(int64_t event, std::vector<int64_t>& out) const {
  out.clear();
  walk_back(event, [&](size_t earlier) {
    out.push_back(events_.item[earlier]);
    return true;
  });
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
}

bool Histories::has_seen(int64_t event, int64_t item) const {
  bool found = false;
  walk_back(event, [&](size_t earlier) {
    found = events_.item[earlier] == item;
    return !found;
  });
  return found;
}

double repeat_share(const Events& events, const Histories& histories) {
  constexpr int64_t kLookedAt = 20000;
  int64_t asked = 0;
  int64_t repeats = 0;
  const int64_t stride = std::max<int64_t>(1, events.size() / kLookedAt);
  for (int64_t e = 0; e < events.size(); e += stride) {
    if (events.part[static_cast<size_t>(e)] != Part::kTrain) continue;
    ++asked;
    repeats += histories.has_seen(e, events.item[static_cast<size_t>(e)]) ? 1 : 0;
  }
  return asked == 0 ? 0.0 : static_cast<double>(repeats) / static_cast<double>(asked);
}

}  // namespace hypertower
