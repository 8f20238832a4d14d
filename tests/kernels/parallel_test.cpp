#include "kernels/parallel.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace hypertower {
namespace {

std::vector<std::pair<int64_t, int64_t>> blocks_of(int threads, int64_t count, int64_t grain) {
  std::vector<std::pair<int64_t, int64_t>> blocks((count + grain - 1) / grain);
  parallel_for(threads, count, grain, [&](int64_t begin, int64_t end) {
    blocks[begin / grain] = {begin, end};
  });
  return blocks;
}

TEST(ParallelFor, BlocksDependOnTheGrainAlone) {
  const std::vector<std::pair<int64_t, int64_t>> expected = {{0, 4}, {4, 8}, {8, 10}};
  for (const int threads : {1, 2, 3, 8}) EXPECT_EQ(blocks_of(threads, 10, 4), expected);
}

TEST(ParallelFor, VisitsEachElementOnce) {
  std::vector<int> visits(1003, 0);
  parallel_for(4, 1003, 7, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++visits[i];
  });
  EXPECT_EQ(visits, std::vector<int>(1003, 1));
}

TEST(ParallelFor, DoesNothingForNothing) {
  parallel_for(4, 0, 8, [](int64_t, int64_t) { FAIL(); });
}

TEST(ParallelFor, RethrowsTheExceptionOfTheLowestBlock) {
  for (const int threads : {1, 2, 4}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      try {
        parallel_for(threads, 100, 1, [](int64_t begin, int64_t) {
          if (begin >= 17 && begin % 2 == 1) throw std::runtime_error(std::to_string(begin));
        });
        FAIL() << "expected an exception";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "17");
      }
    }
  }
}

TEST(ParallelFor, StartsNoBlockAfterAFailureOnOneThread) {
  std::atomic<int> calls{0};
  EXPECT_THROW(parallel_for(1, 100, 10,
                            [&](int64_t, int64_t) {
                              ++calls;
                              throw std::runtime_error("stop");
                            }),
               std::runtime_error);
  EXPECT_EQ(calls.load(), 1);
}

int64_t sum_of_loop(int threads, int64_t count) {
  std::atomic<int64_t> sum = 0;
  parallel_for(threads, count, 1, [&](int64_t begin, int64_t) { sum += begin; });
  return sum;
}

TEST(ParallelFor, LoopsWithinLoopsEnd) {
  std::atomic<int64_t> sum = 0;
  parallel_for(4, 8, 1, [&](int64_t, int64_t) { sum += sum_of_loop(3, 10); });
  EXPECT_EQ(sum, 8 * 45);
}

TEST(ParallelFor, ManyCallersAtOnce) {
  std::atomic<int64_t> sum = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back([&] {
        for (int round = 0; round < 200; ++round) sum += sum_of_loop(1 + round % 4, 10);
      });
    }
  }
  EXPECT_EQ(sum, 8 * 200 * 45);
}

TEST(ParallelFor, WorksInAProcessMadeByFork) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer allows no new threads after fork()";
#endif
  EXPECT_EQ(sum_of_loop(3, 100), 4950);
#ifdef __SANITIZE_ADDRESS__
  // A child hangs where a thread is still being made: AddressSanitizer's locks are not forked well.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
#endif
  EXPECT_EXIT(std::exit(sum_of_loop(3, 10) == 45 ? 0 : 1), testing::ExitedWithCode(0), "");
}

// In a process of its own: nothing takes the threads of OpenMP away again.
void loop_on_openmp_threads() {
  share_openmp_threads();
  const auto in_parallel =
      reinterpret_cast<int (*)()>(dlsym(dlopen("libgomp.so.1", RTLD_NOW), "omp_in_parallel"));
  std::atomic<int64_t> on_openmp = 0;
  parallel_for(2, 10, 1, [&](int64_t, int64_t) { on_openmp += in_parallel() != 0 ? 1 : 0; });
  if (on_openmp != 10) std::exit(2);
  std::atomic<int64_t> sum = 0;
  std::vector<std::jthread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 100; ++round) sum += sum_of_loop(1 + round % 4, 10);
    });
  }
  callers.clear();
  std::atomic<int64_t> within = 0;
  parallel_for(4, 8, 1, [&](int64_t, int64_t) { within += sum_of_loop(3, 10); });
  bool thrown = false;
  try {
    parallel_for(3, 100, 1, [](int64_t begin, int64_t) {
      if (begin >= 17) throw std::runtime_error(std::to_string(begin));
    });
  } catch (const std::runtime_error& error) {
    thrown = error.what() == std::string("17");
  }
  const pid_t child = fork();
  if (child == 0) _exit(sum_of_loop(3, 10) == 45 ? 0 : 1);
  int status = -1;
  waitpid(child, &status, 0);
  std::exit(sum == 4 * 100 * 45 && within == 8 * 45 && thrown && status == 0 ? 0 : 1);
}

TEST(ParallelFor, RunsOnTheThreadsOfOpenMp) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer does not see how OpenMP's threads wait for each other";
#endif
  if (dlopen("libgomp.so.1", RTLD_NOW) == nullptr) GTEST_SKIP() << "there is no libgomp.so.1";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(loop_on_openmp_threads(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace hypertower
