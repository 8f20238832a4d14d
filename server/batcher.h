// Computes answers on worker threads. Continuous micro-batching: a free worker takes what has
// queued up meanwhile as its next batch, so there is no waiting for a batch to fill; the busier,
// the larger the batches. A batch runs on one snapshot from beginning to end. Thread-safe.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "server/metrics.h"
#include "server/protocol.h"
#include "server/snapshot.h"
#include "server/state_store.h"

namespace hypertower {

class Batcher {
 public:
  static constexpr size_t kMaxQueued = 4096;  // calls; beyond it `submit` refuses
  static constexpr size_t kMaxBatch = 64;     // requests, except that one call may hold more

  struct Reply {
    std::shared_ptr<const Snapshot> snapshot;
    std::vector<Answer> answers;  // one per request
    std::exception_ptr failure;   // then there are no answers
  };
  // Called on a worker.
  using Done = std::function<void(const RecommendCall& call, const Reply& reply)>;

  // All must outlive the batcher. REQUIRES: workers >= 1, a snapshot published before `submit`.
  Batcher(const SnapshotHolder& snapshots, const StateStore& store, Metrics& metrics, int workers);
  // Finishes what is queued.
  ~Batcher();

  // False, and `done` is not called, when the queue is full.
  bool submit(RecommendCall call, Done done);
  // Runs something else on a worker.
  void post(std::function<void()> task);

  int64_t queued() const;

 private:
  struct Job {
    RecommendCall call;
    Done done;
    std::chrono::steady_clock::time_point arrived;
  };
  std::vector<Job> take();
  void run_batch();
  void run_group(std::span<Job*> jobs, const std::shared_ptr<const Snapshot>& snapshot);

  const SnapshotHolder& snapshots_;
  const StateStore& store_;
  Metrics& metrics_;
  const size_t workers_;
  mutable std::mutex mutex_;
  std::deque<Job> queue_;  // guarded by mutex_
  boost::asio::thread_pool pool_;
};

}  // namespace hypertower
