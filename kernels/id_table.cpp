#include "kernels/id_table.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <unordered_map>

#include <hwy/highway.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/error.h"
#include "kernels/id_table_layout.h"
#include "kernels/parallel.h"
#include "kernels/stochastic_rounding.h"

namespace hypertower {
namespace {

using id_table::kBucketRows;

constexpr int64_t kMaxSightings = kMaxAdmitAfter;
static_assert(kMaxSightings <= std::numeric_limits<uint8_t>::max());
constexpr int64_t kGrain = 4096;  // ids

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorKind::kArgument, message);
}

int64_t in_range(const char* what, int64_t value, int64_t high) {
  if (value < 1 || value > high) {
    fail("id table: expected " + std::string(what) + " from 1 to " + std::to_string(high) +
         ", got " + std::to_string(value) + ".");
  }
  return value;
}

}  // namespace

void initial_row(int64_t id, uint64_t seed, std::span<float> row) {
  const uint32_t key = rounding::row_key(rounding::step_key(seed, 0), id);
  const float width = 1.0F / std::sqrt(static_cast<float>(row.size()));
  for (size_t c = 0; c < row.size(); ++c) {
    const uint32_t bits = rounding::random_bits(key, static_cast<uint32_t>(c)) >> 8;  // 24 of them
    row[c] = width * (static_cast<float>(bits) * 0x1p-23F - 1.0F);
  }
}

IdTable::IdTable(const IdTableOptions& options) : options_(options) {
  const int64_t wanted = in_range("rows", options.rows, kMaxIdTableRows);
  in_range("admit_after", options.admit_after, kMaxSightings);
  const auto rows = static_cast<size_t>((wanted + kBucketRows - 1) / kBucketRows * kBucketRows);
  memory_ = HugeBuffer(rows * (1 + sizeof(int64_t)));
  keys_ = {reinterpret_cast<int64_t*>(memory_.data()), rows};
  digests_ = {reinterpret_cast<uint8_t*>(keys_.data() + rows), rows};
  if (options.eviction != Eviction::kNone) {
    last_used_.resize(rows);
    uses_.resize(rows);
  }
  if (options.admit_after > 1) sightings_.counters.resize(std::bit_ceil(8 * rows));
}

IdTable::IdTable(const IdTableOptions& options, const Saved& saved) : IdTable(options) {
  const size_t used = last_used_.empty() ? 0 : saved.ids.size();
  if (saved.rows.size() != saved.ids.size() || saved.last_used.size() != used ||
      saved.uses.size() != used || saved.sightings.size() != sightings_.counters.size()) {
    fail("id table: what was saved is of a table with other options.");
  }
  const int64_t buckets = rows() / kBucketRows;
  for (size_t i = 0; i < saved.ids.size(); ++i) {
    const int64_t row = saved.rows[i];
    const uint64_t hash = id_table::hash(saved.ids[i]);
    const bool is_place = row >= 0 && row < rows() &&
                          (row / kBucketRows == id_table::first_bucket(hash, buckets) ||
                           row / kBucketRows == id_table::second_bucket(hash, buckets));
    if (!is_place || digests_[row] != 0 || (i > 0 && saved.ids[i] <= saved.ids[i - 1])) {
      fail("id table: id " + std::to_string(saved.ids[i]) + " cannot have row " +
           std::to_string(row) + " of " + std::to_string(rows()) +
           ": what was saved is damaged or of a table with another number of rows.");
    }
    digests_[row] = id_table::digest(hash);
    keys_[row] = saved.ids[i];
    if (used > 0) {
      last_used_[row] = saved.last_used[i];
      uses_[row] = saved.uses[i];
    }
  }
  size_ = static_cast<int64_t>(saved.ids.size());
  step_ = saved.step;
  sightings_ = {saved.sightings, saved.sighted};
}

// The slots of a bucket that have this digest.
IdTable::Slots IdTable::matches(int64_t bucket, uint8_t digest) const {
  namespace hn = hwy::HWY_NAMESPACE;  // of the baseline: 16 bytes are enough
  const hn::FixedTag<uint8_t, 16> d;
  const uint8_t* digests = &digests_[bucket * kBucketRows];
  const auto wanted = hn::Set(d, digest);
  uint8_t bits[8];  // as many as one store may write
  Slots slots{bucket * kBucketRows, 0};
  for (int64_t at = 0; at < kBucketRows; at += 16) {
    hn::StoreMaskBits(d, hn::Eq(hn::LoadU(d, digests + at), wanted), bits);
    slots.bits |= (bits[0] | uint32_t{bits[1]} << 8) << at;
  }
  return slots;
}

int64_t IdTable::row_among(Slots slots, int64_t id) const {
  for (; slots.bits != 0; slots.bits &= slots.bits - 1) {
    const int64_t row = slots.first_row + std::countr_zero(slots.bits);
    if (keys_[row] == id) return row;
  }
  return -1;
}

int64_t IdTable::row_of(uint64_t hash, int64_t id) const {
  const int64_t buckets = rows() / kBucketRows;
  const uint8_t digest = id_table::digest(hash);
  const int64_t row = row_among(matches(id_table::first_bucket(hash, buckets), digest), id);
  if (row >= 0) return row;
  return row_among(matches(id_table::second_bucket(hash, buckets), digest), id);
}

// Bound by the latency of memory: two lines of each id, asked for well before they are read.
void IdTable::find(std::span<const int64_t> ids, int64_t* rows, int threads) const {
  constexpr int64_t kTogether = 64;
  const int64_t buckets = this->rows() / kBucketRows;
  const auto ask_for_digests = [&](int64_t bucket) {
    cpu::prefetch_line(&digests_[bucket * kBucketRows]);
  };
  const auto ask_for_keys = [&](Slots slots) {
    for (; slots.bits != 0; slots.bits &= slots.bits - 1) {
      cpu::prefetch_line(&keys_[slots.first_row + std::countr_zero(slots.bits)]);
    }
  };
  parallel_for(threads, static_cast<int64_t>(ids.size()), kGrain, [&](int64_t begin, int64_t end) {
    uint64_t hashes[kTogether];
    Slots slots[kTogether];
    int64_t left[kTogether];
    for (int64_t at = begin; at < end; at += kTogether) {
      const int64_t count = std::min(kTogether, end - at);
      for (int64_t i = 0; i < count; ++i) {
        hashes[i] = id_table::hash(ids[at + i]);
        ask_for_digests(id_table::first_bucket(hashes[i], buckets));
      }
      for (int64_t i = 0; i < count; ++i) {
        slots[i] = matches(id_table::first_bucket(hashes[i], buckets), id_table::digest(hashes[i]));
        ask_for_keys(slots[i]);
        if (slots[i].bits == 0) ask_for_digests(id_table::second_bucket(hashes[i], buckets));
      }
      int64_t num_left = 0;  // that are not in their first bucket
      for (int64_t i = 0; i < count; ++i) {
        rows[at + i] = row_among(slots[i], ids[at + i]);
        if (rows[at + i] >= 0) continue;
        slots[i] =
            matches(id_table::second_bucket(hashes[i], buckets), id_table::digest(hashes[i]));
        ask_for_keys(slots[i]);
        left[num_left++] = i;
      }
      for (const int64_t i : std::span(left, num_left)) {
        rows[at + i] = row_among(slots[i], ids[at + i]);
      }
    }
  });
}

// Many threads may use a row at once; what they write does not depend on their order.
void IdTable::use(int64_t row, int64_t times) {
  if (last_used_.empty()) return;
  std::atomic_ref(last_used_[row]).store(step_, std::memory_order_relaxed);
  const std::atomic_ref<uint32_t> uses(uses_[row]);
  uint32_t before = uses.load(std::memory_order_relaxed), after = 0;
  do {
    after = static_cast<uint32_t>(
        std::min<int64_t>(std::numeric_limits<uint32_t>::max(), before + times));
  } while (!uses.compare_exchange_weak(before, after, std::memory_order_relaxed));
}

// Slots are taken from the front and never freed, so the first `quota` of them say all.
int64_t IdTable::free_row(int64_t bucket, int64_t quota) const {
  const auto begin = digests_.begin() + bucket * kBucketRows;
  const auto found = std::find(begin, begin + quota, 0);
  return found == begin + quota ? -1 : found - digests_.begin();
}

int64_t IdTable::victim(int64_t bucket) const {
  if (options_.eviction == Eviction::kNone) return -1;
  const auto& value = options_.eviction == Eviction::kLeastRecent ? last_used_ : uses_;
  int64_t least = -1;
  for (int64_t row = bucket * kBucketRows; row < (bucket + 1) * kBucketRows; ++row) {
    if (last_used_[row] != step_ && (least < 0 || value[row] < value[least])) least = row;
  }
  return least;
}

void IdTable::settle(Newcomer& newcomer, int64_t row) {
  newcomer.row = row;
  newcomer.evicts = digests_[row] != 0;
  newcomer.evicted_id = newcomer.evicts ? keys_[row] : 0;
  digests_[row] = id_table::digest(id_table::hash(newcomer.id));
  keys_[row] = newcomer.id;
  if (!uses_.empty()) uses_[row] = 0;  // the frequency of the former owner is not inherited
  use(row, newcomer.times);
}

// Counts the sightings and drops those that must wait.
void IdTable::keep_admitted(std::vector<Newcomer>& fresh) {
  std::vector<uint8_t>& counters = sightings_.counters;
  const uint64_t mask = counters.size() - 1;
  const auto places = [mask](const Newcomer& n) {
    const uint64_t hash = id_table::hash(n.id);
    return std::pair(id_table::first_counter(hash, mask), id_table::second_counter(hash, mask));
  };
  std::vector<uint8_t> seen;
  for (const Newcomer& n : fresh) {
    const auto [a, b] = places(n);
    seen.push_back(id_table::sightings(counters[a], counters[b], n.times));
  }
  size_t kept = 0;
  for (size_t i = 0; i < fresh.size(); ++i) {
    const auto [a, b] = places(fresh[i]);
    counters[a] = std::max(counters[a], seen[i]);
    counters[b] = std::max(counters[b], seen[i]);
    sightings_.added += fresh[i].times;
    if (seen[i] >= options_.admit_after) fresh[kept++] = fresh[i];
  }
  fresh.resize(kept);
  if (sightings_.added < static_cast<int64_t>(counters.size())) return;
  for (uint8_t& counter : counters) counter /= 2;
  sightings_.added /= 2;
}

std::vector<IdTable::Newcomer> IdTable::newcomers(std::span<const int64_t> ids,
                                                  const int64_t* rows) const {
  std::vector<Newcomer> found;
  std::unordered_map<int64_t, size_t> place;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (rows[i] >= 0) continue;
    const auto [at, is_new] = place.try_emplace(ids[i], found.size());
    if (is_new) found.push_back({ids[i]});
    ++found[at->second].times;
  }
  return found;
}

IdTableReport IdTable::assign(std::span<const int64_t> ids, int64_t* rows,
                              std::vector<IdTableChange>* changes, int threads) {
  find(ids, rows, threads);
  parallel_for(threads, static_cast<int64_t>(ids.size()), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (rows[i] >= 0) use(rows[i], 1);
    }
  });

  IdTableReport report;
  std::vector<Newcomer> fresh = newcomers(ids, rows);
  if (fresh.empty()) return report;
  if (!sightings_.counters.empty()) {
    report.waiting = static_cast<int64_t>(fresh.size());
    keep_admitted(fresh);
    report.waiting -= static_cast<int64_t>(fresh.size());
  }
  const auto settle_by = [&](const auto& row_in) {
    const int64_t buckets = this->rows() / kBucketRows;
    for (const auto bucket : {&id_table::first_bucket, &id_table::second_bucket}) {
      for (Newcomer& n : fresh) {
        if (n.row >= 0) continue;
        const int64_t row = row_in(bucket(id_table::hash(n.id), buckets));
        if (row >= 0) settle(n, row);
      }
    }
  };
  for (const int64_t quota : id_table::kQuotas) {
    settle_by([&](int64_t bucket) { return free_row(bucket, quota); });
  }
  settle_by([&](int64_t bucket) { return victim(bucket); });
  for (const Newcomer& n : fresh) {
    if (n.row < 0) {
      ++report.failed;
      continue;
    }
    changes->push_back({n.row, n.id, n.evicts, n.evicted_id});
    ++report.admitted;
    ++(n.evicts ? report.evicted : size_);
  }
  if (report.admitted > 0) {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (rows[i] < 0) rows[i] = row_of(id_table::hash(ids[i]), ids[i]);
    }
  }
  return report;
}

IdTable::Saved IdTable::save() const {
  std::vector<int64_t> taken;
  for (int64_t row = 0; row < rows(); ++row) {
    if (digests_[row] != 0) taken.push_back(row);
  }
  std::sort(taken.begin(), taken.end(), [&](int64_t a, int64_t b) { return keys_[a] < keys_[b]; });
  Saved saved;
  for (const int64_t row : taken) {
    saved.ids.push_back(keys_[row]);
    saved.rows.push_back(row);
    if (last_used_.empty()) continue;
    saved.last_used.push_back(last_used_[row]);
    saved.uses.push_back(uses_[row]);
  }
  saved.step = step_;
  saved.sightings = sightings_.counters;
  saved.sighted = sightings_.added;
  return saved;
}

}  // namespace hypertower
