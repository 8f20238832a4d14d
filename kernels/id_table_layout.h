// Where an id may lie in an IdTable, and what counts its sightings. For host and device. Pure.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/stochastic_rounding.h"

namespace hypertower::id_table {

inline constexpr int64_t kBucketRows = 32;
inline constexpr int64_t kQuotas[] = {28, 30, 31, kBucketRows};  // of a bucket, in turn

HYPERTOWER_HOST_DEVICE constexpr uint64_t hash(int64_t id) {
  return rounding::mix(static_cast<uint64_t>(id) + 0x9e3779b97f4a7c15U);
}

// 1 to 255; 0 stands for a free slot, so that every id is legal.
HYPERTOWER_HOST_DEVICE constexpr uint8_t digest(uint64_t hash) {
  return static_cast<uint8_t>(1 + hash % 255);
}

// A number below `buckets` (< 2^32) from 32 bits (Lemire, "Fast Random Integer Generation in an
// Interval", 2019).
HYPERTOWER_HOST_DEVICE constexpr int64_t scaled(uint64_t bits, int64_t buckets) {
  return static_cast<int64_t>((bits & 0xFFFFFFFFU) * static_cast<uint64_t>(buckets) >> 32);
}
HYPERTOWER_HOST_DEVICE constexpr int64_t first_bucket(uint64_t hash, int64_t buckets) {
  return scaled(hash >> 32, buckets);
}
HYPERTOWER_HOST_DEVICE constexpr int64_t second_bucket(uint64_t hash, int64_t buckets) {
  return scaled(rounding::mix(hash) >> 32, buckets);
}

// Bit k: byte k of the 8 is `digest`.
HYPERTOWER_HOST_DEVICE constexpr uint32_t matches(uint64_t digests, uint8_t digest) {
  constexpr uint64_t kLow = 0x7F7F7F7F7F7F7F7FU;
  const uint64_t differ = digests ^ (0x0101010101010101U * digest);
  const uint64_t equal = ~(((differ & kLow) + kLow) | differ | kLow);  // 0x80 in bytes of 0
  return static_cast<uint32_t>((equal >> 7) * 0x0102040810204080U >> 56);
}

// The two counters of an id among `mask` + 1, and what they say after `times` more sightings.
HYPERTOWER_HOST_DEVICE constexpr uint64_t first_counter(uint64_t hash, uint64_t mask) {
  return hash & mask;
}
HYPERTOWER_HOST_DEVICE constexpr uint64_t second_counter(uint64_t hash, uint64_t mask) {
  return hash >> 32 & mask;
}
HYPERTOWER_HOST_DEVICE constexpr uint8_t sightings(uint8_t a, uint8_t b, int64_t times) {
  const int64_t sum = (a < b ? a : b) + times;
  return static_cast<uint8_t>(sum < 255 ? sum : 255);
}

}  // namespace hypertower::id_table
