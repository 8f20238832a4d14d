// Group commit: events that arrive while the disk is busy go to it together, with one fsync.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "server/state_store.h"

namespace hypertower {

class Metrics;

class EventWriter {
 public:
  // `failure` is null when the events are durable and visible. Called on the writer's thread.
  using Done = std::function<void(StateStore::Appended result, std::exception_ptr failure)>;

  static constexpr size_t kMaxQueued = 4096;  // calls; beyond it `submit` refuses

  // Both must outlive the writer.
  EventWriter(StateStore& store, Metrics& metrics);
  // Writes what is queued, then stops.
  ~EventWriter();

  // Thread-safe. False, and `done` is not called, when the queue is full.
  bool submit(std::vector<Event> events, Done done);

 private:
  struct Job {
    std::vector<Event> events;
    Done done;
  };
  void run();
  void commit(std::vector<Job>& jobs);

  StateStore& store_;
  Metrics& metrics_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Job> queue_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::thread thread_;      // last: it uses all of the above
};

}  // namespace hypertower
