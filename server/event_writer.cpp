#include "server/event_writer.h"

#include <utility>

#include "server/metrics.h"

namespace hypertower {

EventWriter::EventWriter(StateStore& store, Metrics& metrics)
    : store_(store), metrics_(metrics), thread_([this] { run(); }) {}

EventWriter::~EventWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

bool EventWriter::submit(std::vector<Event> events, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= kMaxQueued) return false;
    queue_.push_back({std::move(events), std::move(done)});
  }
  wake_.notify_one();
  return true;
}

void EventWriter::run() {
  std::vector<Job> jobs;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      jobs.swap(queue_);
    }
    commit(jobs);
    jobs.clear();
  }
}

void EventWriter::commit(std::vector<Job>& jobs) {
  std::vector<std::span<const Event>> groups;
  groups.reserve(jobs.size());
  for (const Job& job : jobs) groups.emplace_back(job.events);
  std::vector<StateStore::Appended> results(jobs.size());
  std::exception_ptr failure;
  const Stopwatch watch;
  try {
    results = store_.append(groups);
  } catch (...) {
    failure = std::current_exception();
  }
  metrics_.observe(Metrics::Timer::kCommit, watch.seconds());
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (failure == nullptr) {
      metrics_.count(Metrics::Counter::kEventsAccepted, results[i].accepted);
      metrics_.count(Metrics::Counter::kEventsDuplicate, results[i].duplicates);
    }
    jobs[i].done(results[i], failure);
  }
}

}  // namespace hypertower
