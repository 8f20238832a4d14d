#include "kernels/cuda/id_table.h"

#include <bit>
#include <optional>

#include "kernels/cuda/id_newcomers.cuh"
#include "kernels/id_table_layout.h"

namespace hypertower::cuda {
namespace {

using id_table::kBucketRows;
using ids::kThreads;
using ids::NewcomerMemory;
using ids::NewcomerRuns;
using ids::Newcomers;
using ids::run;
using ids::Sorted;
using ids::sum;
using ids::thread_index;

// A table as kernels see it.
struct Slots {
  int64_t* keys;        // [rows]
  uint8_t* digests;     // [rows], 0: free
  uint32_t* last_used;  // [rows], null without an eviction policy
  uint32_t* uses;
  int64_t buckets;
  uint32_t step;
};

// For kernels that write no digests.
__device__ inline int64_t row_in(const Slots& slots, int64_t bucket, uint8_t digest, int64_t id) {
  const auto* digests = reinterpret_cast<const uint4*>(slots.digests + bucket * kBucketRows);
  const uint4 half[] = {ptx::ld_nc(digests), ptx::ld_nc(digests + 1)};
  unsigned found = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    found |= id_table::matches(uint64_t{half[i].y} << 32 | half[i].x, digest) << (16 * i);
    found |= id_table::matches(uint64_t{half[i].w} << 32 | half[i].z, digest) << (16 * i + 8);
  }
  for (; found != 0; found &= found - 1) {
    const int64_t row = bucket * kBucketRows + __ffs(static_cast<int>(found)) - 1;
    if (slots.keys[row] == id) return row;
  }
  return -1;
}

__device__ inline int64_t row_of(const Slots& slots, int64_t id) {
  const uint64_t hash = id_table::hash(id);
  const uint8_t digest = id_table::digest(hash);
  const int64_t row = row_in(slots, id_table::first_bucket(hash, slots.buckets), digest, id);
  return row >= 0 ? row : row_in(slots, id_table::second_bucket(hash, slots.buckets), digest, id);
}

__device__ inline void use(const Slots& slots, int64_t row, int64_t times) {
  if (slots.uses == nullptr) return;
  atomicExch(&slots.last_used[row], slots.step);
  unsigned before = load_relaxed(&slots.uses[row]);
  for (;;) {
    const int64_t sum = before + times;
    const auto after = static_cast<unsigned>(sum < UINT_MAX ? sum : UINT_MAX);
    const unsigned seen = atomicCAS(&slots.uses[row], before, after);
    if (seen == before) return;
    before = seen;
  }
}

// missing: null in a search that learns nothing; else missing[i] = 1 for ids without rows, and one
// more element 0.
__global__ void __launch_bounds__(kThreads)
    id_table_find_kernel(Slots slots, const int64_t* ids, int64_t n, int64_t* rows,
                         int64_t* missing) {
  const int64_t i = thread_index();
  if (i == n && missing != nullptr) missing[n] = 0;
  if (i >= n) return;
  const int64_t row = row_of(slots, ids[i]);
  rows[i] = row;
  if (missing == nullptr) return;
  missing[i] = row < 0 ? 1 : 0;
  if (row >= 0) use(slots, row, 1);
}

// seen[i] = sightings of newcomer i with those of this batch.
__global__ void __launch_bounds__(kThreads)
    id_table_sightings_kernel(Newcomers fresh, const uint8_t* counters, uint64_t mask,
                              int64_t admit_after, uint8_t* seen) {
  const int64_t i = thread_index();
  if (i >= fresh.count) return;
  const uint64_t hash = id_table::hash(fresh.ids[i]);
  seen[i] = id_table::sightings(counters[id_table::first_counter(hash, mask)],
                                counters[id_table::second_counter(hash, mask)], fresh.times[i]);
  fresh.waits[i] = seen[i] < admit_after ? 1 : 0;
}

__device__ inline void raise_counter(uint8_t* counters, uint64_t at, uint8_t value) {
  auto* word = reinterpret_cast<unsigned*>(counters + at / 4 * 4);
  const unsigned shift = static_cast<unsigned>(at % 4) * 8;
  unsigned before = load_relaxed(word);
  while ((before >> shift & 0xFFU) < value) {
    const unsigned after = (before & ~(0xFFU << shift)) | static_cast<unsigned>(value) << shift;
    const unsigned seen = atomicCAS(word, before, after);
    if (seen == before) return;
    before = seen;
  }
}

__global__ void __launch_bounds__(kThreads)
    id_table_count_kernel(Newcomers fresh, const uint8_t* seen, uint64_t mask, uint8_t* counters) {
  const int64_t i = thread_index();
  if (i >= fresh.count) return;
  const uint64_t hash = id_table::hash(fresh.ids[i]);
  raise_counter(counters, id_table::first_counter(hash, mask), seen[i]);
  raise_counter(counters, id_table::second_counter(hash, mask), seen[i]);
}

// Four counters a thread.
__global__ void __launch_bounds__(kThreads)
    id_table_halve_kernel(unsigned* counters, int64_t words) {
  const int64_t i = thread_index();
  if (i < words) counters[i] = counters[i] >> 1 & 0x7F7F7F7FU;
}

__device__ __forceinline__ int64_t bucket_of(int64_t id, bool second, int64_t buckets) {
  const uint64_t hash = id_table::hash(id);
  return second ? id_table::second_bucket(hash, buckets) : id_table::first_bucket(hash, buckets);
}

// Those that wait go behind all buckets.
__global__ void __launch_bounds__(kThreads)
    id_table_buckets_kernel(Newcomers fresh, int64_t buckets, bool second, uint32_t* bucket,
                            uint32_t* order) {
  const int64_t i = thread_index();
  if (i >= fresh.count) return;
  bucket[i] = static_cast<uint32_t>(fresh.waits[i] != 0 ? buckets
                                                        : bucket_of(fresh.ids[i], second, buckets));
  order[i] = static_cast<uint32_t>(i);
}

__device__ inline void settle(const Slots& slots, const Newcomers& fresh, int64_t i, int64_t row) {
  const bool evicts = slots.digests[row] != 0;
  fresh.rows[i] = row;
  fresh.evicts[i] = evicts ? 1 : 0;
  fresh.evicted_id[i] = evicts ? slots.keys[row] : 0;
  slots.digests[row] = id_table::digest(id_table::hash(fresh.ids[i]));
  slots.keys[row] = fresh.ids[i];
  if (slots.uses == nullptr) return;
  const int64_t times = fresh.times[i];
  slots.uses[row] = static_cast<unsigned>(times < UINT_MAX ? times : UINT_MAX);
  slots.last_used[row] = slots.step;
}

// Calls row() for the newcomers of a bucket that have none, in their order, until it is -1. The
// thread at the head of each run of `bucket` does it.
template <class Row>
__device__ inline void settle_run(const Slots& slots, const Newcomers& fresh,
                                  const uint32_t* bucket, const uint32_t* order, const Row& row) {
  const int64_t head = thread_index();
  if (head >= fresh.count || bucket[head] >= slots.buckets) return;
  if (head > 0 && bucket[head] == bucket[head - 1]) return;
  for (int64_t i = head; i < fresh.count && bucket[i] == bucket[head]; ++i) {
    const int64_t newcomer = order[i];
    if (fresh.rows[newcomer] >= 0) continue;
    const int64_t found = row(int64_t{bucket[head]} * kBucketRows);
    if (found < 0) return;
    settle(slots, fresh, newcomer, found);
  }
}

// In buckets that hold fewer than `quota`. Slots are taken from the front and never freed.
__global__ void __launch_bounds__(kThreads)
    id_table_place_kernel(Slots slots, Newcomers fresh, const uint32_t* bucket,
                          const uint32_t* order, int64_t quota) {
  settle_run(slots, fresh, bucket, order, [&](int64_t first) -> int64_t {
    for (int64_t row = first; row < first + quota; ++row) {
      if (slots.digests[row] == 0) return row;
    }
    return -1;
  });
}

// In the slot of the least valuable id.
__global__ void __launch_bounds__(kThreads)
    id_table_evict_kernel(Slots slots, Newcomers fresh, const uint32_t* bucket,
                          const uint32_t* order, const uint32_t* value) {
  settle_run(slots, fresh, bucket, order, [&](int64_t first) {
    int64_t least = -1;
    uint32_t least_value = 0;
    for (int64_t row = first; row < first + kBucketRows; ++row) {
      if (slots.last_used[row] == slots.step) continue;
      if (least >= 0 && value[row] >= least_value) continue;
      least = row;
      least_value = value[row];
    }
    return least;
  });
}

__global__ void __launch_bounds__(kThreads)
    id_table_rows_kernel(Slots slots, const int64_t* ids, int64_t n, int64_t* rows) {
  const int64_t i = thread_index();
  if (i < n && rows[i] < 0) rows[i] = row_of(slots, ids[i]);
}

template <class T>
std::optional<Scratch<T>> none_or(bool wanted, int64_t size, cudaStream_t stream) {
  std::optional<Scratch<T>> memory;
  if (wanted) memory.emplace(size, stream);
  return memory;
}

template <class T>
void upload(const Scratch<T>& to, const T* from, size_t size, cudaStream_t stream) {
  check(cudaMemcpyAsync(to.data(), from, size * sizeof(T), cudaMemcpyHostToDevice, stream),
        "id table");
}

}  // namespace

struct DeviceIdTable::State {
  State(const IdTable& host, void* stream_handle)
      : options(host.options_),
        stream(static_cast<cudaStream_t>(stream_handle)),
        num_rows(host.rows()),
        size(host.size()),
        step(host.step_),
        sighted(host.sightings_.added),
        num_counters(static_cast<int64_t>(host.sightings_.counters.size())),
        keys(num_rows, stream),
        digests(num_rows, stream),
        counters(num_counters, stream) {
    const auto size_of = static_cast<size_t>(num_rows);
    upload(keys, host.keys_.data(), size_of, stream);
    upload(digests, host.digests_.data(), size_of, stream);
    if (evicts()) {
      last_used.emplace(num_rows, stream);
      uses.emplace(num_rows, stream);
      upload(*last_used, host.last_used_.data(), size_of, stream);
      upload(*uses, host.uses_.data(), size_of, stream);
    }
    if (num_counters > 0) {
      upload(counters, host.sightings_.counters.data(), host.sightings_.counters.size(), stream);
    }
    check(cudaStreamSynchronize(stream), "id table");  // the host's table may go
  }

  bool evicts() const { return options.eviction != Eviction::kNone; }
  int64_t buckets() const { return num_rows / kBucketRows; }
  Slots slots() const {
    return {keys.data(),
            digests.data(),
            evicts() ? last_used->data() : nullptr,
            evicts() ? uses->data() : nullptr,
            buckets(),
            step};
  }

  // Counts the sightings and marks those that must wait.
  void admit(const Newcomers& fresh, int64_t missing) {
    const auto mask = static_cast<uint64_t>(num_counters - 1);
    const Scratch<uint8_t> seen(fresh.count, stream);
    run(id_table_sightings_kernel, "id_table_sightings", fresh.count, stream, fresh,
        counters.data(), mask, options.admit_after, seen.data());
    run(id_table_count_kernel, "id_table_count", fresh.count, stream, fresh, seen.data(), mask,
        counters.data());
    sighted += missing;
    if (sighted < num_counters) return;
    run(id_table_halve_kernel, "id_table_halve", num_counters / 4, stream,
        reinterpret_cast<unsigned*>(counters.data()), num_counters / 4);
    sighted /= 2;
  }

  void settle_all(const Newcomers& fresh) {
    const int bits = std::bit_width(static_cast<uint64_t>(buckets()));
    const auto by_bucket = [&](bool second) {
      return Sorted<uint32_t>(fresh.count, bits, stream, [&](uint32_t* bucket, uint32_t* order) {
        run(id_table_buckets_kernel, "id_table_buckets", fresh.count, stream, fresh, buckets(),
            second, bucket, order);
      });
    };
    const Sorted<uint32_t> first = by_bucket(false);
    const Sorted<uint32_t> second = by_bucket(true);
    for (const int64_t quota : id_table::kQuotas) {
      for (const auto* sorted : {&first, &second}) {
        run(id_table_place_kernel, "id_table_place", fresh.count, stream, slots(), fresh,
            sorted->keys.data(), sorted->order.data(), quota);
      }
    }
    if (!evicts()) return;
    const bool by_age = options.eviction == Eviction::kLeastRecent;
    for (const auto* sorted : {&first, &second}) {
      run(id_table_evict_kernel, "id_table_evict", fresh.count, stream, slots(), fresh,
          sorted->keys.data(), sorted->order.data(), by_age ? last_used->data() : uses->data());
    }
  }

  const IdTableOptions options;
  const cudaStream_t stream;
  const int64_t num_rows;
  int64_t size;
  uint32_t step;
  int64_t sighted;
  const int64_t num_counters;
  Scratch<int64_t> keys;
  Scratch<uint8_t> digests;
  std::optional<Scratch<uint32_t>> last_used, uses;
  Scratch<uint8_t> counters;
};

DeviceIdTable::DeviceIdTable(const IdTableOptions& options, void* stream)
    : state_(std::make_unique<State>(IdTable(options), stream)) {}
DeviceIdTable::DeviceIdTable(const IdTableOptions& options, const IdTable::Saved& saved,
                             void* stream)
    : state_(std::make_unique<State>(IdTable(options, saved), stream)) {}
DeviceIdTable::~DeviceIdTable() = default;

int64_t DeviceIdTable::rows() const {
  return state_->num_rows;
}
int64_t DeviceIdTable::size() const {
  return state_->size;
}
void DeviceIdTable::begin_step() {
  ++state_->step;
}

void DeviceIdTable::find(const int64_t* ids, int64_t n, int64_t* rows) const {
  if (n == 0) return;
  run(id_table_find_kernel, "id_table_find", n, state_->stream, state_->slots(), ids, n, rows,
      nullptr);
}

IdTableReport DeviceIdTable::assign(const int64_t* ids, int64_t n, int64_t* rows,
                                    std::vector<IdTableChange>* changes) {
  IdTableReport report;
  if (n == 0) return report;
  State& s = *state_;
  const Scratch<int64_t> place(n + 1, s.stream);
  run(id_table_find_kernel, "id_table_find", n + 1, s.stream, s.slots(), ids, n, rows,
      place.data());
  sum(place.data(), n + 1, s.stream);
  const int64_t missing = to_host(place.data() + n, 1, s.stream)[0];
  if (missing == 0) return report;

  const NewcomerRuns runs(ids, n, rows, place.data(), missing, s.stream);
  const int64_t distinct = runs.distinct();
  const NewcomerMemory memory(distinct, s.stream);
  const Newcomers fresh = memory.view(distinct);
  runs.write(fresh);

  if (s.num_counters > 0) s.admit(fresh, missing);
  s.settle_all(fresh);
  run(id_table_rows_kernel, "id_table_rows", n, s.stream, s.slots(), ids, n, rows);

  const auto count = static_cast<size_t>(distinct);
  const std::vector<int64_t> got = to_host(fresh.rows, count, s.stream);
  const std::vector<int64_t> new_ids = to_host(fresh.ids, count, s.stream);
  const std::vector<int64_t> evicted_ids = to_host(fresh.evicted_id, count, s.stream);
  const std::vector<uint8_t> evicts = to_host(fresh.evicts, count, s.stream);
  const std::vector<uint8_t> waits = to_host(fresh.waits, count, s.stream);
  for (size_t i = 0; i < count; ++i) {
    if (got[i] < 0) {
      ++(waits[i] != 0 ? report.waiting : report.failed);
      continue;
    }
    changes->push_back({got[i], new_ids[i], evicts[i] != 0, evicted_ids[i]});
    ++report.admitted;
    ++(evicts[i] != 0 ? report.evicted : s.size);
  }
  return report;
}

IdTable::Saved DeviceIdTable::save() const {
  const State& s = *state_;
  IdTable host(s.options);
  const auto rows = static_cast<size_t>(s.num_rows);
  const auto download = [&](auto* to, const auto& from, size_t size) {
    check(cudaMemcpyAsync(to, from.data(), size * sizeof *to, cudaMemcpyDeviceToHost, s.stream),
          "id table");
  };
  download(host.keys_.data(), s.keys, rows);
  download(host.digests_.data(), s.digests, rows);
  if (s.evicts()) {
    download(host.last_used_.data(), *s.last_used, rows);
    download(host.uses_.data(), *s.uses, rows);
  }
  if (s.num_counters > 0) {
    download(host.sightings_.counters.data(), s.counters, static_cast<size_t>(s.num_counters));
  }
  check(cudaStreamSynchronize(s.stream), "id table");
  host.size_ = s.size;
  host.step_ = s.step;
  host.sightings_.added = s.sighted;
  return host.save();
}

}  // namespace hypertower::cuda
