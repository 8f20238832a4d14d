// Streams and events: what waits for what. With CUEMU_STREAMS=late each test fails if the order it
// relies on were not kept.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

constexpr int kSize = 100;

__global__ void add(int* x, int value) {
  x[threadIdx.x] += value;
}
__global__ void scale(const int* x, int factor, int* y) {
  y[threadIdx.x] = x[threadIdx.x] * factor;
}

class Streams : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreate(&blocking_), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&free_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
    void* pinned = nullptr;
    ASSERT_EQ(cudaMallocHost(&pinned, kSize * sizeof(int)), cudaSuccess);
    pinned_ = static_cast<int*>(pinned);
    std::fill_n(pinned_, kSize, -1);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFreeHost(pinned_), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(free_), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(blocking_), cudaSuccess);
  }
  void run_add(cudaStream_t stream, int value) {
    check(launch(add, {.block = kSize, .stream = stream, .name = "add"}, x_.data(), value), "add");
  }
  void run_scale(cudaStream_t stream, int factor) {
    check(launch(scale, {.block = kSize, .stream = stream, .name = "scale"}, x_.data(), factor,
                 y_.data()),
          "scale");
  }

  cudaStream_t blocking_ = nullptr;
  cudaStream_t free_ = nullptr;
  cudaEvent_t event_ = nullptr;
  int* pinned_ = nullptr;
  DeviceArray<int> x_{std::vector<int>(kSize, 1)};
  DeviceArray<int> y_{std::vector<int>(kSize, 0)};
};

TEST_F(Streams, KeepTheOrderOfTheirWork) {
  run_add(free_, 2);
  run_scale(free_, 10);
  ASSERT_EQ(cudaMemsetAsync(x_.data(), 0, kSize * sizeof(int), free_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, y_.data(), kSize * sizeof(int), cudaMemcpyDeviceToHost, free_),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(pinned_[kSize - 1], 30);
  EXPECT_EQ(x_.to_host(), std::vector<int>(kSize, 0));
}

TEST_F(Streams, WaitForEvents) {
  run_add(blocking_, 4);
  ASSERT_EQ(cudaEventRecord(event_, blocking_), cudaSuccess);
  run_add(blocking_, 100);
  ASSERT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(blocking_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, blocking_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(free_, event_, 0), cudaSuccess);
  run_scale(free_, 2);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(y_.to_host(), std::vector<int>(kSize, 210));
}

TEST_F(Streams, BlockingOnesAndTheNullStreamWaitForEachOther) {
  run_add(blocking_, 1);
  run_scale(nullptr, 5);  // after the addition
  run_add(blocking_, 1);  // after the scaling
  ASSERT_EQ(cudaStreamSynchronize(blocking_), cudaSuccess);
  EXPECT_EQ(y_.to_host(), std::vector<int>(kSize, 10));
  EXPECT_EQ(x_.to_host(), std::vector<int>(kSize, 3));
}

TEST_F(Streams, CopyFromAndToPageableMemory) {
  std::vector<int> values(kSize, 7);
  ASSERT_EQ(
      cudaMemcpyAsync(x_.data(), values.data(), kSize * sizeof(int), cudaMemcpyHostToDevice, free_),
      cudaSuccess);
  run_scale(free_, 3);
  ASSERT_EQ(
      cudaMemcpyAsync(values.data(), y_.data(), kSize * sizeof(int), cudaMemcpyDeviceToHost, free_),
      cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(values, std::vector<int>(kSize, 21));
}

TEST_F(Streams, FreeMemoryInOrder) {
  int* scratch = nullptr;
  ASSERT_EQ(cudaMallocAsync(&scratch, kSize * sizeof(int), free_), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(scratch, 0, kSize * sizeof(int), free_), cudaSuccess);
  check(launch(scale, {.block = kSize, .stream = free_}, x_.data(), 9, scratch), "scale");
  check(launch(scale, {.block = kSize, .stream = free_}, scratch, 2, y_.data()), "scale");
  ASSERT_EQ(cudaFreeAsync(scratch, free_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(y_.to_host(), std::vector<int>(kSize, 18));
}

TEST_F(Streams, AnswerQueries) {
  run_add(free_, 2);
  ASSERT_EQ(cudaEventRecord(event_, free_), cudaSuccess);
  while (cudaEventQuery(event_) == cudaErrorNotReady) {
  }
  while (cudaStreamQuery(free_) == cudaErrorNotReady) {
  }
  EXPECT_EQ(cudaStreamQuery(free_), cudaSuccess);
  EXPECT_EQ(x_.to_host(), std::vector<int>(kSize, 3));
}

TEST(HostThreads, MayShareTheDevice) {
  std::vector<std::thread> threads;
  std::vector<std::vector<int>> results(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i, &results] {
      cudaStream_t stream = nullptr;
      ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
      const DeviceArray<int> x(std::vector<int>(kSize, 0));
      for (int round = 0; round < 10; ++round) {
        check(launch(add, {.block = kSize, .stream = stream, .name = "add"}, x.data(), i), "add");
      }
      ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      results[i] = x.to_host();
      ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(results[i], std::vector<int>(kSize, 10 * i));
}

#if defined(HYPERTOWER_CUEMU)
// Late work has not run before somebody waits: the mistakes that this shows.
class LateStreams : public Streams {
 protected:
  void SetUp() override {
    before_ = cuemu::schedule();
    cuemu::Schedule late = before_;
    late.late_streams = true;
    cuemu::set_schedule(late);
    Streams::SetUp();
  }
  void TearDown() override {
    Streams::TearDown();
    cuemu::set_schedule(before_);
  }
  cuemu::Schedule before_;
};

TEST_F(LateStreams, ShowAResultThatWasNotWaitedFor) {
  run_scale(free_, 2);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, y_.data(), kSize * sizeof(int), cudaMemcpyDeviceToHost, free_),
            cudaSuccess);
  EXPECT_EQ(pinned_[0], -1);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 2);
}

TEST_F(LateStreams, ShowThatTheNullStreamDoesNotWaitForANonBlockingOne) {
  run_scale(free_, 2);
  std::vector<int> values(kSize);
  ASSERT_EQ(cudaMemcpy(values.data(), y_.data(), kSize * sizeof(int), cudaMemcpyDeviceToHost),
            cudaSuccess);
  EXPECT_EQ(values, std::vector<int>(kSize, 0));
  EXPECT_EQ(y_.to_host(), std::vector<int>(kSize, 2));  // waits for the device
}

TEST_F(LateStreams, ShowAMissingEvent) {
  run_add(blocking_, 4);
  run_scale(free_, 2);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned_, y_.data(), kSize * sizeof(int), cudaMemcpyDeviceToHost, free_),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(free_), cudaSuccess);
  EXPECT_EQ(pinned_[0], 2);
}

TEST_F(LateStreams, ShowPinnedMemoryThatIsReusedTooEarly) {
  std::fill_n(pinned_, kSize, 6);
  ASSERT_EQ(cudaMemcpyAsync(x_.data(), pinned_, kSize * sizeof(int), cudaMemcpyHostToDevice, free_),
            cudaSuccess);
  std::fill_n(pinned_, kSize, 0);
  EXPECT_EQ(x_.to_host(), std::vector<int>(kSize, 0));
}

TEST_F(LateStreams, ShowMemoryThatIsFreedOnAnotherStream) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto mistake = [&] {
    int* scratch = nullptr;
    cudaMallocAsync(&scratch, kSize * sizeof(int), free_);
    cudaMemsetAsync(scratch, 0, kSize * sizeof(int), free_);
    cudaFreeAsync(scratch, blocking_);
    cudaStreamSynchronize(blocking_);
    cudaStreamSynchronize(free_);
  };
  EXPECT_EXIT(mistake(), ::testing::ExitedWithCode(70),
              "cudaMemset ran after its memory was freed");
}
#endif

}  // namespace
}  // namespace hypertower
