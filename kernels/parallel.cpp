#include "kernels/parallel.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace hypertower {
namespace {

class Loop {
 public:
  Loop(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body)
      : count_(count), grain_(grain), blocks_((count + grain - 1) / grain), body_(body) {}

  int64_t blocks() const { return blocks_; }

  // Takes blocks until none is left or one has failed. Called by every thread.
  void work() noexcept {
    while (!failed_.load(std::memory_order_relaxed)) {
      const int64_t block = next_.fetch_add(1, std::memory_order_relaxed);
      if (block >= blocks_) return;
      try {
        body_(block * grain_, std::min(count_, (block + 1) * grain_));
      } catch (...) {
        // Blocks start in ascending order, so every block below a failing one runs to its end and
        // the lowest failing block is always among those recorded.
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!error_ || block < error_block_) {
          error_ = std::current_exception();
          error_block_ = block;
        }
        failed_.store(true, std::memory_order_relaxed);
      }
    }
  }

  // After all threads are joined.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t count_;
  const int64_t grain_;
  const int64_t blocks_;
  const std::function<void(int64_t, int64_t)>& body_;

  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};

  std::mutex mutex_;  // guards the two below
  std::exception_ptr error_;
  int64_t error_block_ = 0;
};

}  // namespace

void parallel_for(int threads, int64_t count, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body) {
  assert(threads >= 1 && grain >= 1);
  if (count <= 0) return;
  Loop loop(count, grain, body);
  const int64_t helpers = std::min<int64_t>(threads, loop.blocks()) - 1;
  {
    std::vector<std::jthread> pool;
    pool.reserve(helpers);
    for (int64_t i = 0; i < helpers; ++i) pool.emplace_back([&loop] { loop.work(); });
    loop.work();
  }
  loop.rethrow();
}

}  // namespace hypertower
