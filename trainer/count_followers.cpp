#include "trainer/count_followers.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace hypertower {
namespace {

constexpr int64_t kReach = 3;   // events
constexpr double kDoubt = 3.0;  // added to each sum: few sightings prove little

struct Follows {
  int32_t item;
  float weight;
};

// Calls visit(j, i, weight) for everything that C counts.
template <class Visit>
void for_each_pair(const Events& events, const Histories& histories, int64_t num_users, Part last,
                   const Visit& visit) {
  std::vector<size_t> own;
  for (int64_t u = 0; u < num_users; ++u) {
    own.clear();
    for (const int64_t row : histories.events_of(u)) {
      const auto e = static_cast<size_t>(row);
      if (events.part[e] <= last && events.history_weight[e] > 0) own.push_back(e);
    }
    for (size_t to = 1; to < own.size(); ++to) {
      for (size_t k = 1; k <= std::min<size_t>(kReach, to); ++k) {
        const size_t from = own[to - k];
        if (events.order[from] >= events.order[own[to]]) continue;
        const int64_t j = events.item[from], i = events.item[own[to]];
        if (i != j) visit(j, i, 1.0F / static_cast<float>(k));
      }
    }
  }
}

// Equal items joined, ascending; returns the sum of all weights.
double join(std::vector<Follows>& list) {
  std::stable_sort(list.begin(), list.end(),
                   [](const Follows& a, const Follows& b) { return a.item < b.item; });
  double total = 0;
  size_t kept = 0;
  for (const Follows& f : list) {
    total += f.weight;
    if (kept > 0 && list[kept - 1].item == f.item) {
      list[kept - 1].weight += f.weight;
    } else {
      list[kept++] = f;
    }
  }
  list.resize(kept);
  return total;
}

}  // namespace

Followers count_followers(const Events& events, const Histories& histories, int64_t num_users,
                          int64_t num_items, Part last) {
  std::vector<int64_t> begin(static_cast<size_t>(num_items) + 1, 0);
  for_each_pair(events, histories, num_users, last,
                [&](int64_t j, int64_t, float) { ++begin[static_cast<size_t>(j) + 1]; });
  for (size_t j = 1; j < begin.size(); ++j) begin[j] += begin[j - 1];
  std::vector<Follows> all(static_cast<size_t>(begin.back()));
  std::vector<int64_t> filled(begin.begin(), begin.end() - 1);
  for_each_pair(events, histories, num_users, last, [&](int64_t j, int64_t i, float weight) {
    all[static_cast<size_t>(filled[static_cast<size_t>(j)]++)] = {static_cast<int32_t>(i), weight};
  });

  Followers out;
  std::vector<Follows> list;
  for (size_t j = 0; j + 1 < begin.size(); ++j) {
    const auto own = std::span(all).subspan(static_cast<size_t>(begin[j]),
                                            static_cast<size_t>(begin[j + 1] - begin[j]));
    list.assign(own.begin(), own.end());
    const double total = join(list) + kDoubt;
    const size_t kept = std::min<size_t>(list.size(), Followers::kPerItem);
    std::partial_sort(list.begin(), list.begin() + static_cast<int64_t>(kept), list.end(),
                      [](const Follows& a, const Follows& b) {
                        return a.weight != b.weight ? a.weight > b.weight : a.item < b.item;
                      });
    for (size_t n = 0; n < kept; ++n) {
      out.items.push_back(list[n].item);
      out.shares.push_back(static_cast<float>(list[n].weight / total));
    }
    out.offsets.push_back(static_cast<int64_t>(out.items.size()));
  }
  return out;
}

}  // namespace hypertower
