#include "trainer/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace hypertower {

namespace {
constexpr uint64_t kStream = 2;  // of CounterRandom; the order of the epochs uses another
}

CandidateSampler::CandidateSampler(std::vector<float> counts, int64_t negatives, uint64_t seed)
    : counts_(std::move(counts)),
      total_(std::accumulate(counts_.begin(), counts_.end(), 0.0)),
      negatives_(negatives),
      random_(seed, kStream) {}

Candidates CandidateSampler::draw(std::span<const int64_t> targets, int64_t step,
                                  std::span<const int64_t> certain) const {
  Candidates out;
  const auto n = static_cast<int64_t>(counts_.size());
  out.items.assign(targets.begin(), targets.end());
  out.items.insert(out.items.end(), certain.begin(), certain.end());
  for (int64_t i = 0; i < negatives_; ++i) {
    out.items.push_back(random_.below(static_cast<uint64_t>(step * negatives_ + i), n));
  }
  std::sort(out.items.begin(), out.items.end());
  out.items.erase(std::unique(out.items.begin(), out.items.end()), out.items.end());

  const double uniform =
      static_cast<double>(negatives_) * std::log1p(-1.0 / static_cast<double>(n));
  const double per_count = static_cast<double>(targets.size()) / total_;
  for (const int64_t item : out.items) {
    if (std::binary_search(certain.begin(), certain.end(), item)) {
      out.logq.push_back(0.0F);
      continue;
    }
    const double missed = uniform - per_count * counts_[static_cast<size_t>(item)];
    out.logq.push_back(static_cast<float>(std::log(-std::expm1(missed))));
  }
  for (const int64_t target : targets) {
    out.target.push_back(std::lower_bound(out.items.begin(), out.items.end(), target) -
                         out.items.begin());
  }
  return out;
}

}  // namespace hypertower
