// Counters and latency histograms of the server, in Prometheus' text format. Every thread counts in
// a shard of its own with relaxed atomics; the shards are summed when somebody asks. (The library's
// own Histogram takes a lock per observation.) Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace hypertower {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class Metrics {
 public:
  enum class Timer : uint8_t {
    kCommit,  // appending one group of events, fsync included
    kBatch,   // computing one batch of answers
    kQueue,   // a request's wait for its batch
    kLoad,    // loading and validating a model
    kNumTimers
  };
  enum class Counter : uint8_t {
    kEventsAccepted,
    kEventsDuplicate,
    kBatches,
    kBatchedRequests,
    kShed,  // refused: queue full
    kDeadlineMissed,
    kConnections,      // accepted
    kConnectionsShed,  // refused: too many open
    kLoadsFailed,
    kNumCounters
  };
  // What is only known when asked for.
  struct Gauges {
    std::string version;  // of the model in service; empty = none yet
    bool ready = false;
    int64_t connections = 0;
    int64_t queued = 0;
    uint64_t seq = 0;
  };

  // `apis`: the endpoints by name, in the order of the indices given to `request`.
  explicit Metrics(std::vector<std::string> apis);

  void request(size_t api, int status, double seconds);
  void observe(Timer timer, double seconds);
  void count(Counter counter, int64_t n = 1);

  std::string text(const Gauges& gauges) const;

 private:
  static constexpr size_t kShards = 16;
  static constexpr size_t kMaxApis = 16;
  // Upper bounds 25 us * 2^(i / 2): 25 us ... 13 s; the last bucket has no bound.
  static constexpr size_t kBuckets = 40;
  static constexpr std::array<int, 13> kStatuses = {200, 400, 404, 405, 408, 409, 413,
                                                    415, 431, 500, 503, 504, 0};  // 0 = any other

  using Cell = std::atomic<uint64_t>;
  struct Histogram {
    std::array<Cell, kBuckets> buckets{};
    Cell nanoseconds{};
  };
  struct alignas(64) Shard {
    std::array<Histogram, kMaxApis> requests;
    std::array<std::array<Cell, kStatuses.size()>, kMaxApis> statuses{};
    std::array<Histogram, static_cast<size_t>(Timer::kNumTimers)> timers;
    std::array<Cell, static_cast<size_t>(Counter::kNumCounters)> counters{};
  };

  static double upper_bound(size_t bucket);
  static void add(Histogram& histogram, double seconds);
  Shard& shard();
  template <class Pick>
  uint64_t sum(const Pick& pick) const;
  template <class Family, class Pick>
  void collect_histogram(Family& family, const std::string& label, const std::string& value,
                         const Pick& pick) const;

  std::vector<std::string> apis_;
  std::vector<Shard> shards_;
};

}  // namespace hypertower
