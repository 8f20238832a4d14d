// Asynchronous copies, mbarriers and matrix fragments.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

constexpr int kThreads = 64;
constexpr int kTile = 4 * kThreads;  // floats: 16 bytes a thread

// Sums tiles through two buffers: while one is added up, the next is on its way.
__global__ void pipeline_kernel(const float* in, int tiles, float* out) {
  SHARED(float, stage, [2][kTile]);
  const int t = static_cast<int>(threadIdx.x);
  ptx::cp_async16(&stage[0][4 * t], in + 4 * t);
  ptx::cp_async_commit();
  float sum = 0;
  for (int i = 0; i < tiles; ++i) {
    const bool more = i + 1 < tiles;
    ptx::cp_async16(&stage[(i + 1) % 2][4 * t], in + (more ? i + 1 : 0) * kTile + 4 * t, more);
    ptx::cp_async_commit();
    ptx::cp_async_wait<1>();
    __syncthreads();
    for (int j = 0; j < 4; ++j) sum += stage[i % 2][(4 * t + 4 * 17 + j) % kTile];
    __syncthreads();
  }
  ptx::cp_async_wait<0>();
  __syncthreads();
  out[t] = sum + stage[tiles % 2][4 * t];  // zeros: the last copy was not valid
}

TEST(CpAsync, KeepsTwoStagesInFlight) {
  constexpr int kTiles = 5;
  std::vector<float> values(kTiles * kTile);
  std::iota(values.begin(), values.end(), 0.0F);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(kThreads);
  check(launch(pipeline_kernel, {.block = kThreads}, in.data(), kTiles, out.data()), "pipeline");
  const std::vector<float> got = out.to_host();
  for (int t = 0; t < kThreads; ++t) {
    float sum = 0;
    for (int i = 0; i < kTiles; ++i) {
      for (int j = 0; j < 4; ++j) sum += values[i * kTile + (4 * t + 4 * 17 + j) % kTile];
    }
    EXPECT_EQ(got[t], sum);
  }
}

__global__ void bulk_kernel(const float* in, int tiles, float* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  SHARED(float, stage, [2][kTile]);
  SHARED(uint64_t, full, [2]);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::mbarrier_init(&full[1], 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  auto fetch = [&](int i) {
    ptx::mbarrier_arrive_expect(&full[i % 2], sizeof stage[0]);
    ptx::bulk_copy(stage[i % 2], in + i * kTile, sizeof stage[0], &full[i % 2]);
  };
  if (t == 0) fetch(0);
  float sum = 0;
  for (int i = 0; i < tiles; ++i) {
    if (t == 0 && i + 1 < tiles) fetch(i + 1);
    ptx::mbarrier_wait(&full[i % 2], static_cast<unsigned>(i / 2 % 2));
    for (int j = t; j < kTile; j += kThreads) sum += stage[i % 2][j];
    __syncthreads();
  }
  out[t] = sum;
#endif
}

TEST(BulkCopy, SignalsItsBarrier) {
  int major = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  if (major < 9) GTEST_SKIP() << "bulk copies need sm_90";
  constexpr int kTiles = 5;
  std::vector<float> values(kTiles * kTile);
  std::iota(values.begin(), values.end(), 0.0F);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(kThreads);
  check(launch(bulk_kernel, {.block = kThreads}, in.data(), kTiles, out.data()), "bulk");
  const std::vector<float> got = out.to_host();
  for (int t = 0; t < kThreads; ++t) {
    float sum = 0;
    for (int i = t; i < kTiles * kTile; i += kThreads) sum += values[i];
    EXPECT_EQ(got[t], sum);
  }
}

// Producer and consumer warps hand a slot over through two mbarriers.
__global__ void hand_over_kernel(int rounds, int* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  SHARED(int, slot, [32]);
  SHARED(uint64_t, barriers, [2]);  // full, empty
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barriers[0], 32);
    ptx::mbarrier_init(&barriers[1], 32);
  }
  __syncthreads();
  for (int round = 0; round < rounds; ++round) {
    const auto parity = static_cast<unsigned>(round % 2);
    if (threadIdx.x < 32) {
      if (round > 0) ptx::mbarrier_wait(&barriers[1], parity ^ 1U);
      slot[lane] = 100 * round + lane;
      ptx::mbarrier_arrive(&barriers[0]);
    } else {
      ptx::mbarrier_wait(&barriers[0], parity);
      out[32 * round + lane] = slot[31 - lane];
      ptx::mbarrier_arrive(&barriers[1]);
    }
  }
#endif
}

TEST(Mbarrier, HandsASlotBackAndForth) {
  int major = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  if (major < 9) GTEST_SKIP() << "the waits need sm_90";
  const DeviceArray<int> out(32 * 6);
  check(launch(hand_over_kernel, {.block = 64}, 6, out.data()), "hand over");
  const std::vector<int> got = out.to_host();
  for (int i = 0; i < 32 * 6; ++i) EXPECT_EQ(got[i], 100 * (i / 32) + 31 - i % 32);
}

// One warp: d[16][8] = a[16][16] * b[16][8], a row-major and b column-major in shared memory.
__global__ void mma_kernel(const uint16_t* a, const uint16_t* b, float* d) {
  SHARED(uint16_t, tile_a, [16 * 16]);
  SHARED(uint16_t, tile_b, [8 * 16]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile_a[i] = a[i];
  for (int i = lane; i < 128; i += 32) tile_b[i] = b[i];
  __syncwarp();
  uint32_t fragment_a[4];
  const int row = lane % 16;
  ptx::ldmatrix_x4(fragment_a, tile_a + 16 * row + 8 * (lane / 16));
  const int g = lane / 4;
  const int t = lane % 4;
  uint32_t fragment_b[2];
  for (int i = 0; i < 2; ++i) {
    const int at = 16 * g + 2 * t + 8 * i;
    fragment_b[i] = tile_b[at] | static_cast<uint32_t>(tile_b[at + 1]) << 16;
  }
  float sum[4] = {0, 0, 0, 0};
  ptx::mma_m16n8k16_bf16(sum, fragment_a, fragment_b, sum);
  d[8 * g + 2 * t] = sum[0];
  d[8 * g + 2 * t + 1] = sum[1];
  d[8 * (g + 8) + 2 * t] = sum[2];
  d[8 * (g + 8) + 2 * t + 1] = sum[3];
}

TEST(Mma, MultipliesFragments) {
  // Small integers: exact in bf16, and their sums in fp32 whatever the order.
  auto bits = [](int value) {
    const auto number = static_cast<float>(value);
    uint32_t word = 0;
    std::memcpy(&word, &number, 4);
    return static_cast<uint16_t>(word >> 16);
  };
  std::vector<int> a(256);
  std::vector<int> b(128);
  std::vector<uint16_t> a_bits;
  std::vector<uint16_t> b_bits;
  for (int i = 0; i < 256; ++i) a_bits.push_back(bits(a[i] = (i * 7) % 23 - 11));
  for (int i = 0; i < 128; ++i) b_bits.push_back(bits(b[i] = (i * 5) % 19 - 9));
  const DeviceArray<uint16_t> device_a(a_bits);
  const DeviceArray<uint16_t> device_b(b_bits);
  const DeviceArray<float> d(128);
  check(launch(mma_kernel, {.block = 32}, device_a.data(), device_b.data(), d.data()), "mma");
  const std::vector<float> got = d.to_host();
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      int sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[16 * row + k] * b[16 * column + k];
      EXPECT_EQ(got[8 * row + column], static_cast<float>(sum)) << row << ' ' << column;
    }
  }
}

__global__ void transposed_kernel(const uint16_t* in, uint32_t* out) {
  SHARED(uint16_t, tiles, [4 * 64]);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 256; i += 32) tiles[i] = in[i];
  __syncwarp();
  uint32_t r[4];
  ptx::ldmatrix_x4_trans(r, tiles + 8 * lane);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = r[i];
}

TEST(Ldmatrix, Transposes) {
  std::vector<uint16_t> values(256);
  std::iota(values.begin(), values.end(), uint16_t{0});
  const DeviceArray<uint16_t> in(values);
  const DeviceArray<uint32_t> out(128);
  check(launch(transposed_kernel, {.block = 32}, in.data(), out.data()), "transposed");
  const std::vector<uint32_t> got = out.to_host();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t low = 64 * i + 8 * (2 * (lane % 4)) + lane / 4;
      EXPECT_EQ(got[4 * lane + i], low | (low + 8) << 16);
    }
  }
}

}  // namespace
}  // namespace hypertower
