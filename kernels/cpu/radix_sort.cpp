#include "kernels/cpu/radix_sort.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

// 2,048 counters of 8 bytes stay in a first-level cache next to the streams they steer.
constexpr int kMaxDigitBits = 11;
// Below this a thread costs more to start than its share of a pass takes.
constexpr int64_t kMinChunk = 32768;

}  // namespace

uint64_t* radix_sort(uint64_t* keys, uint64_t* scratch, int64_t n, int shift, int bits,
                     int threads) {
  const int passes = (bits + kMaxDigitBits - 1) / kMaxDigitBits;
  if (passes == 0 || n < 2) return keys;
  const int digit_bits = (bits + passes - 1) / passes;
  const int64_t buckets = int64_t{1} << digit_bits;
  const uint64_t digit_mask = static_cast<uint64_t>(buckets) - 1;
  const int64_t chunks = std::clamp<int64_t>(n / kMinChunk, 1, threads);
  const int64_t chunk = (n + chunks - 1) / chunks;

  std::vector<int64_t> next(buckets * chunks);  // [chunk][bucket]: count, then where to write
  const int end = shift + bits;
  for (int low = shift; low < end; low += digit_bits) {
    // The last digit may be narrower: bits above `end` are not part of the key.
    const uint64_t mask = std::min(digit_mask, (~uint64_t{0}) >> (64 - std::min(64, end - low)));
    const auto digit = [low, mask](uint64_t key) { return (key >> low) & mask; };

    std::fill(next.begin(), next.end(), 0);
    parallel_for(threads, n, chunk, [&](int64_t begin, int64_t stop) {
      int64_t* count = next.data() + begin / chunk * buckets;
      for (int64_t i = begin; i < stop; ++i) ++count[digit(keys[i])];
    });
    int64_t sum = 0;
    for (int64_t b = 0; b < buckets; ++b) {
      for (int64_t c = 0; c < chunks; ++c) sum += std::exchange(next[c * buckets + b], sum);
    }
    parallel_for(threads, n, chunk, [&](int64_t begin, int64_t stop) {
      int64_t* place = next.data() + begin / chunk * buckets;
      for (int64_t i = begin; i < stop; ++i) scratch[place[digit(keys[i])]++] = keys[i];
    });
    std::swap(keys, scratch);
  }
  return keys;
}

}  // namespace hypertower::cpu
