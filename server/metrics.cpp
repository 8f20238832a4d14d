#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <limits>
#include <thread>

namespace hypertower {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily family(const std::string& name, const std::string& help, MetricType type) {
  MetricFamily f;
  f.name = "hypertower_" + name;
  f.help = help;
  f.type = type;
  return f;
}

void add_counter(MetricFamily& f, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = value;
  f.metric.push_back(std::move(metric));
}

void add_gauge(MetricFamily& f, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  f.metric.push_back(std::move(metric));
}

struct Name {
  const char* name;
  const char* help;
};

constexpr std::array<Name, static_cast<size_t>(Metrics::Timer::kNumTimers)> kTimerNames = {{
    {"event_commit_seconds", "Appending one group of events, fsync included"},
    {"batch_seconds", "Computing one batch of answers"},
    {"queue_seconds", "Wait of a request for its batch"},
    {"model_load_seconds", "Loading and validating a model directory"},
}};

constexpr std::array<Name, static_cast<size_t>(Metrics::Counter::kNumCounters)> kCounterNames = {{
    {"events_accepted_total", "Events stored"},
    {"events_duplicate_total", "Events dropped because their id was known"},
    {"batches_total", "Batches computed"},
    {"batched_requests_total", "Requests in those batches"},
    {"shed_total", "Requests refused because a queue was full"},
    {"deadline_missed_total", "Requests given up because their timeout had passed"},
    {"connections_total", "Connections accepted"},
    {"connections_shed_total", "Connections refused because too many were open"},
    {"model_loads_failed_total", "Model directories refused"},
}};

}  // namespace

Metrics::Metrics(std::vector<std::string> apis) : apis_(std::move(apis)), shards_(kShards) {
  assert(apis_.size() <= kMaxApis);
}

double Metrics::upper_bound(size_t bucket) {
  if (bucket + 1 == kBuckets) return std::numeric_limits<double>::infinity();
  return 25e-6 * std::exp2(static_cast<double>(bucket) / 2);
}

void Metrics::add(Histogram& histogram, double seconds) {
  if (!(seconds > 0)) seconds = 0;  // clocks do odd things, NaN among them
  const double place = std::ceil(2 * std::log2(std::max(seconds, 1e-9) / 25e-6));
  const auto bucket = static_cast<size_t>(std::clamp(place, 0.0, kBuckets - 1.0));
  histogram.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
  histogram.nanoseconds.fetch_add(static_cast<uint64_t>(seconds * 1e9), std::memory_order_relaxed);
}

Metrics::Shard& Metrics::shard() {
  static thread_local const size_t kMine =
      std::hash<std::thread::id>{}(std::this_thread::get_id()) * 0x9E3779B97F4A7C15U >> 60;
  static_assert(kShards == 16);
  return shards_[kMine];
}

void Metrics::request(size_t api, int status, double seconds) {
  Shard& s = shard();
  add(s.requests[api], seconds);
  const auto known = std::find(kStatuses.begin(), kStatuses.end() - 1, status);
  s.statuses[api][static_cast<size_t>(known - kStatuses.begin())].fetch_add(
      1, std::memory_order_relaxed);
}

void Metrics::observe(Timer timer, double seconds) {
  add(shard().timers[static_cast<size_t>(timer)], seconds);
}

void Metrics::count(Counter counter, int64_t n) {
  shard().counters[static_cast<size_t>(counter)].fetch_add(static_cast<uint64_t>(n),
                                                           std::memory_order_relaxed);
}

template <class Pick>
uint64_t Metrics::sum(const Pick& pick) const {
  uint64_t total = 0;
  for (const Shard& s : shards_) total += pick(s).load(std::memory_order_relaxed);
  return total;
}

template <class Family, class Pick>
void Metrics::collect_histogram(Family& f, const std::string& label, const std::string& value,
                                const Pick& pick) const {
  ClientMetric metric;
  if (!label.empty()) metric.label.push_back({label, value});
  uint64_t cumulative = 0;
  for (size_t b = 0; b < kBuckets; ++b) {
    cumulative += sum([&](const Shard& s) -> const Cell& { return pick(s).buckets[b]; });
    metric.histogram.bucket.push_back({cumulative, upper_bound(b)});
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum =
      1e-9 *
      static_cast<double>(sum([&](const Shard& s) -> const Cell& { return pick(s).nanoseconds; }));
  f.metric.push_back(std::move(metric));
}

std::string Metrics::text(const Gauges& gauges) const {
  std::vector<MetricFamily> families;
  auto& requests =
      families.emplace_back(family("requests_total", "Requests answered", MetricType::Counter));
  for (size_t api = 0; api < apis_.size(); ++api) {
    for (size_t i = 0; i < kStatuses.size(); ++i) {
      const uint64_t n = sum([&](const Shard& s) -> const Cell& { return s.statuses[api][i]; });
      if (n == 0) continue;
      add_counter(requests, static_cast<double>(n),
                  {{"api", apis_[api]},
                   {"code", kStatuses[i] == 0 ? "other" : std::to_string(kStatuses[i])}});
    }
  }
  auto& seconds = families.emplace_back(family(
      "request_seconds", "From the request's last byte to its answer", MetricType::Histogram));
  for (size_t api = 0; api < apis_.size(); ++api) {
    collect_histogram(seconds, "api", apis_[api],
                      [&](const Shard& s) -> const Histogram& { return s.requests[api]; });
  }
  for (size_t t = 0; t < kTimerNames.size(); ++t) {
    auto& f = families.emplace_back(
        family(kTimerNames[t].name, kTimerNames[t].help, MetricType::Histogram));
    collect_histogram(f, "", "", [&](const Shard& s) -> const Histogram& { return s.timers[t]; });
  }
  for (size_t c = 0; c < kCounterNames.size(); ++c) {
    auto& f = families.emplace_back(
        family(kCounterNames[c].name, kCounterNames[c].help, MetricType::Counter));
    add_counter(
        f, static_cast<double>(sum([&](const Shard& s) -> const Cell& { return s.counters[c]; })));
  }
  const auto gauge = [&](const char* name, const char* help, double value) {
    add_gauge(families.emplace_back(family(name, help, MetricType::Gauge)), value);
  };
  gauge("ready", "1 when requests are answered", gauges.ready ? 1 : 0);
  gauge("connections", "Open connections", static_cast<double>(gauges.connections));
  gauge("queue_depth", "Requests that wait for a batch", static_cast<double>(gauges.queued));
  gauge("state_seq", "Number of the latest stored event", static_cast<double>(gauges.seq));
  if (!gauges.version.empty()) {
    add_gauge(
        families.emplace_back(family("model_info", "The model in service", MetricType::Gauge)), 1,
        {{"version", gauges.version}});
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace hypertower
