#include "trainer/baselines.h"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.h"
#include "trainer/metrics.h"

namespace hypertower {
namespace {

constexpr double kRecentShare = 0.1;
constexpr double kShrinkage = 20;
constexpr size_t kNeighbours = 200;

class Popularity : public Baseline {
 public:
  Popularity(std::string name, std::vector<float> counts)
      : name_(std::move(name)), counts_(std::move(counts)) {}
  std::string name() const override { return name_; }
  void score(int64_t, std::span<float> scores) const override {
    std::copy(counts_.begin(), counts_.end(), scores.begin());
  }

 private:
  std::string name_;
  std::vector<float> counts_;
};

// Distinct (user, item) pairs of the training events, by user and by item.
struct Pairs {
  std::vector<std::vector<int64_t>> items_of;
  std::vector<std::vector<int64_t>> users_of;
};

Pairs distinct_pairs(const Dataset& data, Part last) {
  Pairs pairs;
  pairs.items_of.resize(static_cast<size_t>(data.users.size()));
  pairs.users_of.resize(static_cast<size_t>(data.items.size()));
  const Events& e = data.events;
  for (size_t i = 0; i < e.user.size(); ++i) {
    if (e.part[i] <= last) pairs.items_of[static_cast<size_t>(e.user[i])].push_back(e.item[i]);
  }
  for (size_t u = 0; u < pairs.items_of.size(); ++u) {
    auto& items = pairs.items_of[u];
    std::sort(items.begin(), items.end());
    items.erase(std::unique(items.begin(), items.end()), items.end());
    for (const int64_t item : items) {
      pairs.users_of[static_cast<size_t>(item)].push_back(static_cast<int64_t>(u));
    }
  }
  return pairs;
}

class ItemKnn : public Baseline {
 public:
  ItemKnn(const Dataset& data, const Histories& histories, Part last, bool repeats)
      : histories_(histories), tie_break_(item_counts(data, last)) {
    // Small enough never to overturn a similarity (the smallest is 1 / (users + shrinkage)).
    const float most = *std::max_element(tie_break_.begin(), tie_break_.end());
    for (float& x : tie_break_) x *= 1e-6F / std::max(1.0F, most);
    const Pairs pairs = distinct_pairs(data, last);
    const auto size = [&](size_t item) { return static_cast<double>(pairs.users_of[item].size()); };
    const size_t n = pairs.users_of.size();
    neighbours_.resize(n);
    std::vector<int32_t> both(n, 0);
    std::vector<int64_t> touched;
    for (size_t i = 0; i < n; ++i) {
      for (const int64_t u : pairs.users_of[i]) {
        for (const int64_t j : pairs.items_of[static_cast<size_t>(u)]) {
          if (both[static_cast<size_t>(j)]++ == 0) touched.push_back(j);
        }
      }
      auto& list = neighbours_[i];
      for (const int64_t j : touched) {
        const auto other = static_cast<size_t>(j);
        if (other != i || repeats) {
          const double norm = std::sqrt(size(i) * size(other)) + kShrinkage;
          list.push_back({j, static_cast<float>(both[other] / norm)});
        }
        both[other] = 0;
      }
      touched.clear();
      const auto nearer = [](const Neighbour& a, const Neighbour& b) {
        return a.similarity > b.similarity || (a.similarity == b.similarity && a.item < b.item);
      };
      if (list.size() > kNeighbours) {
        std::nth_element(list.begin(), list.begin() + kNeighbours, list.end(), nearer);
        list.resize(kNeighbours);
      }
      std::sort(list.begin(), list.end(), nearer);
      list.shrink_to_fit();
    }
  }

  std::string name() const override { return "item_knn"; }

  void score(int64_t event, std::span<float> scores) const override {
    std::copy(tie_break_.begin(), tie_break_.end(), scores.begin());
    std::vector<int64_t> seen;
    histories_.seen(event, seen);
    for (const int64_t j : seen) {
      for (const Neighbour& near : neighbours_[static_cast<size_t>(j)]) {
        scores[static_cast<size_t>(near.item)] += near.similarity;
      }
    }
  }

 private:
  struct Neighbour {
    int64_t item;
    float similarity;
  };
  const Histories& histories_;
  std::vector<float> tie_break_;
  std::vector<std::vector<Neighbour>> neighbours_;  // best first
};

}  // namespace

std::vector<float> item_counts(const Dataset& data, Part last) {
  std::vector<float> counts(static_cast<size_t>(data.items.size()), 0.0F);
  const Events& e = data.events;
  for (size_t i = 0; i < e.item.size(); ++i) {
    if (e.part[i] <= last) counts[static_cast<size_t>(e.item[i])] += e.weight[i];
  }
  return counts;
}

std::vector<float> recent_item_counts(const Dataset& data, Part last) {
  std::vector<float> counts(static_cast<size_t>(data.items.size()), 0.0F);
  const Events& e = data.events;
  const auto total = std::count_if(e.part.begin(), e.part.end(), [&](Part p) { return p <= last; });
  auto left = static_cast<int64_t>(std::ceil(kRecentShare * static_cast<double>(total)));
  for (size_t i = e.item.size(); i-- > 0 && left > 0;) {
    if (e.part[i] > last) continue;
    counts[static_cast<size_t>(e.item[i])] += e.weight[i];
    --left;
  }
  return counts;
}

std::vector<std::unique_ptr<Baseline>> fit_baselines(const Dataset& data,
                                                     const Histories& histories, Part last,
                                                     bool repeats) {
  std::vector<std::unique_ptr<Baseline>> out;
  out.push_back(std::make_unique<Popularity>("popularity", item_counts(data, last)));
  out.push_back(std::make_unique<Popularity>("recent_popularity", recent_item_counts(data, last)));
  out.push_back(std::make_unique<ItemKnn>(data, histories, last, repeats));
  return out;
}

nlohmann::json evaluate_baseline(const Baseline& baseline, const Dataset& data,
                                 const Histories& histories, std::span<const int64_t> events,
                                 std::span<const int64_t> lengths, bool exclude_seen, int threads) {
  constexpr int64_t kGrain = 256;
  const auto n = static_cast<int64_t>(events.size());
  std::vector<double> ranks(events.size());
  std::vector<std::vector<int64_t>> tops(events.size());
  parallel_for(threads, n, kGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(static_cast<size_t>(data.items.size()));
    std::vector<int64_t> seen;
    for (int64_t i = begin; i < end; ++i) {
      const auto row = static_cast<size_t>(i);
      baseline.score(events[row], scores);
      if (exclude_seen) histories.seen(events[row], seen);
      const int64_t target = data.events.item[static_cast<size_t>(events[row])];
      ranks[row] = rank_of(scores, target, seen, lengths.back(), tops[row]);
    }
  });
  // Summed in order, so that the result does not depend on the number of threads.
  RankMetrics metrics({lengths.begin(), lengths.end()}, data.items.size());
  for (size_t row = 0; row < ranks.size(); ++row) metrics.add(ranks[row], tops[row]);
  return metrics.to_json();
}

}  // namespace hypertower
