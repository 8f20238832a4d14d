// A counter-based random generator: draw number i of stream s under a seed is a pure function, so
// an epoch can be repeated or resumed, and no draw depends on who drew before.
// SplitMix64 as a hash (Steele, Lea, Flood 2014). Pure; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace hypertower {

class CounterRandom {
 public:
  CounterRandom(uint64_t seed, uint64_t stream) : key_(mix(mix(seed) ^ (stream * kOdd))) {}

  uint64_t bits(uint64_t counter) const { return mix(key_ + counter * kOdd); }
  // In [0, n), 1 <= n < 2^32 (multiply-shift; the bias is below n / 2^32).
  int64_t below(uint64_t counter, int64_t n) const {
    return static_cast<int64_t>(((bits(counter) >> 32) * static_cast<uint64_t>(n)) >> 32);
  }

 private:
  static constexpr uint64_t kOdd = 0x9E3779B97F4A7C15ULL;
  static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
  }
  uint64_t key_;
};

// Fisher-Yates with draws of `random`.
inline void shuffle(std::vector<int64_t>& values, const CounterRandom& random) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[static_cast<size_t>(random.below(i, static_cast<int64_t>(i)))]);
  }
}

}  // namespace hypertower
