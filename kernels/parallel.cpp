#include "kernels/parallel.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <hwy/cache_control.h>

namespace hypertower {
namespace {

// How long a thread stays awake for what it waits for. To wake a sleeping one takes tens of
// microseconds, on virtual machines hundreds: as much as a small loop.
constexpr auto kAwake = std::chrono::microseconds(200);

// Unlocks for a while, but returns locked, true as soon as ready(), which reads atomics alone.
// Others that want the processor get it meanwhile.
template <class Ready>
bool stay_awake(std::unique_lock<std::mutex>& lock, const Ready& ready) {
  if (ready()) return true;
  lock.unlock();
  const auto end = std::chrono::steady_clock::now() + kAwake;
  do {
    for (int look = 0; look < 64; ++look) {
      if (ready() && lock.try_lock()) {
        if (ready()) return true;
        lock.unlock();
      }
      hwy::Pause();
    }
    std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < end);
  lock.lock();
  return ready();
}

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

  // After everybody has left.
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

// Threads that wait for loops, made when a loop finds too few of them idle and kept. The caller of
// a loop works too and never waits for a helper that has not begun, so loops within loops end, and
// a loop whose helpers are all busy elsewhere takes longer, nothing else.
class Helpers {
 public:
  // Works on the loop with up to `count` helpers; returns when nobody touches it any more.
  void run(Loop& loop, int64_t count) {
    Call call{.loop = &loop, .wanted = count};
    std::unique_lock<std::mutex> lock(mutex_);
    const int64_t free = awake_ - promised();
    add_threads(count);
    calls_.push_back(&call);
    num_calls_ = calls_.size();
    lock.unlock();
    for (int64_t i = std::max<int64_t>(0, free); i < count; ++i) work_.notify_one();
    loop.work();
    lock.lock();
    std::erase(calls_, &call);
    num_calls_ = calls_.size();
    const auto left = [&] { return call.working == 0; };
    if (!stay_awake(lock, left)) call.left.wait(lock, left);
  }

 private:
  struct Call {
    Loop* loop;
    int64_t wanted;                    // helpers that may still join
    std::atomic<int64_t> working = 0;  // those that have and are not done
    std::condition_variable left = {};
  };

  void add_threads(int64_t count) {
    for (int64_t i = std::max<int64_t>(0, idle_ - promised()); i < count; ++i) {
      try {
        std::thread([this] { help(); }).detach();
      } catch (const std::system_error&) {
        return;  // the machine has no more to give
      }
      ++idle_;
    }
  }

  int64_t promised() const {
    int64_t sum = 0;
    for (const Call* call : calls_) sum += call->wanted;
    return sum;
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      const auto called = [&] { return num_calls_ > 0; };
      ++awake_;
      const bool found = stay_awake(lock, called);
      --awake_;
      if (!found) work_.wait(lock, called);
      Call& call = *calls_.front();
      ++call.working;
      if (--call.wanted == 0) {
        calls_.erase(calls_.begin());
        num_calls_ = calls_.size();
      }
      --idle_;
      lock.unlock();
      call.loop->work();
      lock.lock();
      ++idle_;
      if (--call.working == 0) call.left.notify_one();
    }
  }

  std::mutex mutex_;  // guards what follows and the calls
  std::condition_variable work_;
  std::vector<Call*> calls_;  // that want helpers, the oldest first
  std::atomic<size_t> num_calls_ = 0;
  int64_t idle_ = 0;   // threads not in a loop
  int64_t awake_ = 0;  // those of them that do not sleep
};

// Never destroyed: its threads may outlive everything else. A process made by fork() has none of
// them and starts anew.
Helpers* helpers = nullptr;

Helpers& all_helpers() {
  static const bool made = [] {
    helpers = new Helpers;
    pthread_atfork(nullptr, nullptr, [] { helpers = new Helpers; });
    return true;
  }();
  static_cast<void>(made);
  return *helpers;
}

// What compilers call for `#pragma omp parallel` (the ABI of libgomp): body(argument) on each
// thread of a team, whose caller is one of them.
using OpenMpParallel = void (*)(void (*body)(void*), void* argument, unsigned threads,
                                unsigned flags);
std::atomic<OpenMpParallel> openmp_parallel = nullptr;
int (*openmp_max_threads)() = nullptr;

// Never asks for a smaller team than others of this process have: OpenMP would end the threads that
// are too many and make them again for the next one.
void run_on_openmp_threads(OpenMpParallel parallel, Loop& loop, int64_t threads) {
  struct Team {
    Loop& loop;
    std::atomic<int64_t> places;
  } team{loop, threads};
  parallel(
      [](void* argument) {
        Team& t = *static_cast<Team*>(argument);
        if (t.places.fetch_sub(1, std::memory_order_relaxed) > 0) t.loop.work();
      },
      &team, static_cast<unsigned>(std::max<int64_t>(threads, openmp_max_threads())), 0);
}

}  // namespace

void parallel_for(int threads, int64_t count, int64_t grain,
                  const std::function<void(int64_t, int64_t)>& body) {
  assert(threads >= 1 && grain >= 1);
  if (count <= 0) return;
  Loop loop(count, grain, body);
  const int64_t wanted = std::min<int64_t>(threads, loop.blocks());
  const OpenMpParallel parallel = openmp_parallel.load(std::memory_order_acquire);
  if (wanted < 2) {
    loop.work();
  } else if (parallel != nullptr) {
    run_on_openmp_threads(parallel, loop, wanted);
  } else {
    all_helpers().run(loop, wanted - 1);
  }
  loop.rethrow();
}

void share_openmp_threads() {
  static const bool found = [] {
    void* library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return false;
    const auto max_threads = reinterpret_cast<int (*)()>(dlsym(library, "omp_get_max_threads"));
    const auto parallel = reinterpret_cast<OpenMpParallel>(dlsym(library, "GOMP_parallel"));
    if (max_threads == nullptr || parallel == nullptr) return false;
    openmp_max_threads = max_threads;
    openmp_parallel.store(parallel, std::memory_order_release);
    pthread_atfork(nullptr, nullptr, [] { openmp_parallel = nullptr; });
    return true;
  }();
  static_cast<void>(found);
}

int hardware_threads() {
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace hypertower
