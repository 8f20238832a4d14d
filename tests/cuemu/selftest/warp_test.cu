// Barriers and warp collectives: every lane's answer against a plain loop over lanes.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

std::vector<int> zeros(size_t n) {
  return std::vector<int>(n, 0);
}

__global__ void shuffle_kernel(int width, int source, int delta, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = 100 + lane;
  out[lane] = __shfl_sync(kFullMask, value, source, width);
  out[32 + lane] = __shfl_up_sync(kFullMask, value, delta, width);
  out[64 + lane] = __shfl_down_sync(kFullMask, value, delta, width);
  out[96 + lane] = __shfl_xor_sync(kFullMask, value, delta, width);
}

TEST(Shuffle, MovesValuesWithinSegments) {
  for (const int width : {32, 16, 8, 1}) {
    for (const int source : {0, 5, 31}) {
      for (const int delta : {0, 1, 7, 16}) {
        const DeviceArray<int> out(zeros(128));
        check(launch(shuffle_kernel, {.block = 32}, width, source, delta, out.data()), "shuffle");
        const std::vector<int> got = out.to_host();
        for (int lane = 0; lane < 32; ++lane) {
          const int base = lane / width * width;
          const int up = lane - delta >= base ? lane - delta : lane;
          const int down = lane + delta < base + width ? lane + delta : lane;
          const int other = (lane ^ delta) < base + width ? lane ^ delta : lane;
          EXPECT_EQ(got[lane], 100 + base + source % width);
          EXPECT_EQ(got[32 + lane], 100 + up);
          EXPECT_EQ(got[64 + lane], 100 + down);
          EXPECT_EQ(got[96 + lane], 100 + other);
        }
      }
    }
  }
}

template <class T>
__global__ void shuffle_type_kernel(const T* in, T* out) {
  out[threadIdx.x] = __shfl_sync(kFullMask, in[threadIdx.x], 31 - static_cast<int>(threadIdx.x));
}

template <class T>
void expect_reversed() {
  std::vector<T> values;
  for (int i = 0; i < 32; ++i) values.push_back(static_cast<T>(i * 0x10000001LL));
  const DeviceArray<T> in(values);
  const DeviceArray<T> out(32);
  check(launch(shuffle_type_kernel<T>, {.block = 32}, in.data(), out.data()), "shuffle type");
  EXPECT_EQ(out.to_host(), std::vector<T>(values.rbegin(), values.rend()));
}

TEST(Shuffle, MovesFourAndEightByteTypes) {
  expect_reversed<int>();
  expect_reversed<unsigned>();
  expect_reversed<long long>();
  expect_reversed<float>();
  expect_reversed<double>();
}

__global__ void vote_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  out[lane] = __ballot_sync(kFullMask, lane % 3 == 0);
  out[32 + lane] = static_cast<unsigned>(__any_sync(kFullMask, lane == 7));
  out[64 + lane] = static_cast<unsigned>(__all_sync(kFullMask, lane != 7));
  out[96 + lane] = static_cast<unsigned>(__any_sync(kFullMask, 0));
  out[128 + lane] = static_cast<unsigned>(__all_sync(kFullMask, 5));
  out[160 + lane] = __match_any_sync(kFullMask, lane / 5);
}

TEST(Vote, CountsEveryLane) {
  const DeviceArray<unsigned> out(192);
  check(launch(vote_kernel, {.block = 32}, out.data()), "vote");
  const std::vector<unsigned> got = out.to_host();
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(got[lane], 0x49249249U);
    EXPECT_EQ(got[32 + lane], 1U);
    EXPECT_EQ(got[64 + lane], 0U);
    EXPECT_EQ(got[96 + lane], 0U);
    EXPECT_EQ(got[128 + lane], 1U);
    unsigned same = 0;
    for (unsigned other = 0; other < 32; ++other) {
      if (other / 5 == lane / 5) same |= 1U << other;
    }
    EXPECT_EQ(got[160 + lane], same);
  }
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
__global__ void reduce_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  const int value = 3 - static_cast<int>(lane);
  out[lane] = __reduce_add_sync(kFullMask, lane);
  out[32 + lane] = __reduce_max_sync(kFullMask, lane ^ 5U);
  out[64 + lane] = __reduce_min_sync(kFullMask, lane + 4U);
  out[96 + lane] = __reduce_or_sync(kFullMask, 1U << lane);
  out[128 + lane] = __reduce_and_sync(kFullMask, ~(1U << lane / 2));
  out[160 + lane] = __reduce_xor_sync(kFullMask, lane);
  out[192 + lane] = static_cast<unsigned>(__reduce_min_sync(kFullMask, value));
  out[224 + lane] = static_cast<unsigned>(__reduce_add_sync(kFullMask, value));
}

TEST(Reduce, CombinesEveryLane) {
  const DeviceArray<unsigned> out(256);
  check(launch(reduce_kernel, {.block = 32}, out.data()), "reduce");
  const std::vector<unsigned> got = out.to_host();
  const unsigned expected[] = {496,
                               31,
                               4,
                               ~0U,
                               0xffff0000U,
                               0,
                               static_cast<unsigned>(-28),
                               static_cast<unsigned>(3 * 32 - 496)};
  for (int i = 0; i < 256; ++i) EXPECT_EQ(got[i], expected[i / 32]) << i;
}
#endif

// Two halves of a warp meet by themselves, and in any order.
__global__ void halves_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x;
  if (lane < 16) {
    out[lane] = __ballot_sync(0x0000ffffU, lane % 2 == 0);
  } else {
    const unsigned twice = __shfl_sync(0xffff0000U, lane, 31) + __shfl_sync(0xffff0000U, lane, 16);
    out[lane] = twice;
  }
}

TEST(Masks, SeparateGroupsOfLanes) {
  const DeviceArray<unsigned> out(32);
  check(launch(halves_kernel, {.block = 32}, out.data()), "halves");
  const std::vector<unsigned> got = out.to_host();
  for (unsigned lane = 0; lane < 32; ++lane) EXPECT_EQ(got[lane], lane < 16 ? 0x5555U : 47U);
}

template <int kBlock>
__global__ void helper_kernel(const int* in, int* out) {
  SHARED(int, scratch, [33]);
  const int value = in[threadIdx.x];
  out[threadIdx.x] = block_reduce_sum<kBlock>(value, scratch);
  int total = 0;
  out[kBlock + threadIdx.x] = block_inclusive_sum<kBlock>(value, scratch, &total);
  out[2 * kBlock + threadIdx.x] = total;
  out[3 * kBlock + threadIdx.x] = warp_reduce_max(value);
  out[4 * kBlock + threadIdx.x] = warp_reduce_min(value);
}

template <int kBlock>
void expect_helpers() {
  std::vector<int> values;
  for (int i = 0; i < kBlock; ++i) values.push_back((i * 37) % 101 - 40);
  const DeviceArray<int> in(values);
  const DeviceArray<int> out(5 * kBlock);
  check(launch(helper_kernel<kBlock>, {.block = kBlock}, in.data(), out.data()), "helpers");
  const std::vector<int> got = out.to_host();
  int sum = 0;
  for (const int value : values) sum += value;
  int running = 0;
  for (int i = 0; i < kBlock; ++i) {
    running += values[i];
    const auto warp = values.begin() + i / 32 * 32;
    EXPECT_EQ(got[i], sum);
    EXPECT_EQ(got[kBlock + i], running);
    EXPECT_EQ(got[2 * kBlock + i], sum);
    EXPECT_EQ(got[3 * kBlock + i], *std::max_element(warp, warp + 32));
    EXPECT_EQ(got[4 * kBlock + i], *std::min_element(warp, warp + 32));
  }
}

TEST(Helpers, ReduceAndScanBlocks) {
  expect_helpers<32>();
  expect_helpers<96>();
  expect_helpers<256>();
}

// A block of 50 threads: the second warp has 18 lanes, and the missing ones count as arrived.
__global__ void ragged_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned mask = threadIdx.x < 32 ? kFullMask : (1U << 18) - 1;
  out[threadIdx.x] = __popc(__ballot_sync(mask, 1));
  __syncwarp(mask);
  out[50 + threadIdx.x] = __shfl_sync(mask, lane, 17);
}

TEST(Masks, FitTheLastWarp) {
  const DeviceArray<int> out(100);
  check(launch(ragged_kernel, {.block = 50}, out.data()), "ragged");
  const std::vector<int> got = out.to_host();
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(got[i], i < 32 ? 32 : 18);
    EXPECT_EQ(got[50 + i], 17);
  }
}

__global__ void barrier_kernel(int* out) {
  SHARED(int, tile, [128]);
  const int t = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 5; ++round) {
    tile[t] = t * round;
    __syncthreads();
    out[round * 128 + t] = tile[127 - t];
    __syncthreads();
  }
  out[640 + t] = __syncthreads_count(t % 4 == 0);
  out[768 + t] = __syncthreads_and(t >= 0) != 0;
  out[896 + t] = __syncthreads_and(t > 0) != 0;
  out[1024 + t] = __syncthreads_or(t == 99) != 0;
  out[1152 + t] = __syncthreads_or(0);
}

TEST(Barrier, OrdersTheBlockAndVotes) {
  const DeviceArray<int> out(1280);
  check(launch(barrier_kernel, {.block = 128}, out.data()), "barrier");
  const std::vector<int> got = out.to_host();
  for (int i = 0; i < 640; ++i) EXPECT_EQ(got[i], (127 - i % 128) * (i / 128));
  const int votes[] = {32, 1, 0, 1, 0};
  for (int i = 640; i < 1280; ++i) EXPECT_EQ(got[i], votes[(i - 640) / 128]) << i;
}

// The first two warps exchange through barrier 1, the others never see it.
__global__ void named_barrier_kernel(int* out) {
  SHARED(int, tile, [64]);
  const int t = static_cast<int>(threadIdx.x);
  if (t < 64) {
    for (int round = 0; round < 3; ++round) {
      tile[t] = 1000 * round + t;
      ptx::bar_sync(1, 64);
      out[t] = tile[63 - t];
      ptx::bar_sync(1, 64);
    }
  }
  __syncthreads();
  if (t >= 64) out[t] = tile[127 - t];
}

TEST(Barrier, NamedOrdersSomeWarps) {
  const DeviceArray<int> out(128);
  check(launch(named_barrier_kernel, {.block = 128}, out.data()), "named barrier");
  const std::vector<int> got = out.to_host();
  for (int t = 0; t < 128; ++t) EXPECT_EQ(got[t], 2000 + (t < 64 ? 63 - t : 127 - t));
}

}  // namespace
}  // namespace hypertower
