#include "server/batcher.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <map>
#include <utility>

#include "server/http_message.h"
#include "server/people.h"

namespace hypertower {

Batcher::Batcher(const SnapshotHolder& snapshots, const StateStore& store, Metrics& metrics,
                 int workers)
    : snapshots_(snapshots),
      store_(store),
      metrics_(metrics),
      workers_(static_cast<size_t>(workers)),
      pool_(static_cast<size_t>(workers)) {}

Batcher::~Batcher() {
  pool_.join();
}

bool Batcher::submit(RecommendCall call, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= kMaxQueued) {
      metrics_.count(Metrics::Counter::kShed);
      return false;
    }
    queue_.push_back({std::move(call), std::move(done), std::chrono::steady_clock::now()});
  }
  // One task per call; a task takes at least one call when there is one, so none is left behind.
  boost::asio::post(pool_, [this] { run_batch(); });
  return true;
}

void Batcher::post(std::function<void()> task) {
  boost::asio::post(pool_, std::move(task));
}

int64_t Batcher::queued() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(queue_.size());
}

// A fair share of the queue, so that the other workers have something to do as well.
std::vector<Batcher::Job> Batcher::take() {
  const std::lock_guard lock(mutex_);
  const size_t share = (queue_.size() + workers_ - 1) / workers_;
  std::vector<Job> jobs;
  size_t requests = 0;
  while (!queue_.empty() && jobs.size() < share && requests < kMaxBatch) {
    requests += queue_.front().call.requests.size();
    jobs.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return jobs;
}

void Batcher::run_batch() {
  std::vector<Job> jobs = take();
  if (jobs.empty()) return;
  const std::shared_ptr<const Snapshot> snapshot = snapshots_.current();
  const auto now = std::chrono::steady_clock::now();
  // One search serves one k and one treatment of seen items.
  std::map<std::pair<int64_t, std::optional<bool>>, std::vector<Job*>> groups;
  for (Job& job : jobs) {
    const auto waited = now - job.arrived;
    metrics_.observe(Metrics::Timer::kQueue, std::chrono::duration<double>(waited).count());
    if (job.call.timeout && waited > *job.call.timeout) {
      metrics_.count(Metrics::Counter::kDeadlineMissed);
      job.done(
          job.call,
          {snapshot,
           {},
           std::make_exception_ptr(HttpError(504, "timeout",
                                             "timeout_ms: the request waited longer than the " +
                                                 std::to_string(job.call.timeout->count()) +
                                                 " ms it allowed; try again or allow more",
                                             "timeout_ms"))});
      continue;
    }
    groups[{job.call.k, job.call.exclude_seen}].push_back(&job);
  }
  for (auto& [key, group] : groups) run_group(group, snapshot);
}

void Batcher::run_group(std::span<Job*> jobs, const std::shared_ptr<const Snapshot>& snapshot) {
  const Stopwatch watch;
  std::vector<Request> joined;
  std::span<const Request> requests = jobs.front()->call.requests;
  if (jobs.size() > 1) {
    for (const Job* job : jobs) {
      joined.insert(joined.end(), job->call.requests.begin(), job->call.requests.end());
    }
    requests = joined;
  }
  const LivePeople people(*snapshot, store_);
  const RecommendOptions options{jobs.front()->call.k, jobs.front()->call.exclude_seen, {}};
  Reply reply{snapshot, {}, nullptr};
  try {
    reply.answers = snapshot->recommender->recommend(requests, options, &people, Exec{});
  } catch (...) {
    if (jobs.size() > 1) {  // somebody's mistake must not become everybody's
      for (size_t i = 0; i < jobs.size(); ++i) run_group(jobs.subspan(i, 1), snapshot);
      return;
    }
    reply.failure = std::current_exception();
  }
  metrics_.observe(Metrics::Timer::kBatch, watch.seconds());
  metrics_.count(Metrics::Counter::kBatches);
  metrics_.count(Metrics::Counter::kBatchedRequests, static_cast<int64_t>(requests.size()));
  if (jobs.size() == 1) {
    jobs.front()->done(jobs.front()->call, reply);
    return;
  }
  auto next = reply.answers.begin();
  for (Job* job : jobs) {
    const auto end = next + static_cast<ptrdiff_t>(job->call.requests.size());
    job->done(job->call,
              {snapshot, {std::make_move_iterator(next), std::make_move_iterator(end)}, nullptr});
    next = end;
  }
}

}  // namespace hypertower
