// Products of the tensor cores: what the wrappers promise of fragments and shared memory.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

// Rows of int8 as [columns / 16][rows][16], the layout of SharedColumns.
std::vector<int8_t> by_columns(const std::vector<int>& matrix, int rows, int columns) {
  std::vector<int8_t> bytes(matrix.size());
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      bytes[(c / 16 * rows + r) * 16 + c % 16] = static_cast<int8_t>(matrix[r * columns + c]);
    }
  }
  return bytes;
}

std::vector<int> numbers(int count, int factor) {
  std::vector<int> values(count);
  for (int i = 0; i < count; ++i) values[i] = i * factor % 255 - 127;
  return values;
}

std::vector<int> product(const std::vector<int>& a, const std::vector<int>& b, int rows,
                         int columns, int depth) {
  std::vector<int> out(rows * columns);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      for (int k = 0; k < depth; ++k) out[r * columns + c] += a[r * depth + k] * b[c * depth + k];
    }
  }
  return out;
}

// One warp: d[16][8] = a[16][32] * b[8][32]^T.
__global__ void mma_kernel(const uint4* a, const uint4* b, int* d) {
  SHARED(uint4, tile_a, [2 * 16]);
  SHARED(uint4, tile_b, [2 * 16]);  // two blocks of eight, of which the first is used
  const int lane = static_cast<int>(threadIdx.x);
  tile_a[lane] = a[lane];
  tile_b[lane] = b[lane % 16 / 8 * 8 + lane % 8];
  __syncwarp();
  uint32_t fragment_a[4];
  uint32_t fragment_b[4];
  ptx::ldmatrix_x4(fragment_a, tile_a + lane);
  ptx::ldmatrix_x4(fragment_b, tile_b + lane);
  const uint32_t pair[2] = {fragment_b[0], fragment_b[1]};
  int sum[4] = {1, 1, 1, 1};
  ptx::mma_m16n8k32_s8(sum, fragment_a, pair, sum);
  for (int i = 0; i < 4; ++i) {
    d[8 * (lane / 4 + i / 2 * 8) + lane % 4 * 2 + i % 2] = sum[i];
  }
}

TEST(MmaInt8, MultipliesFragments) {
  const std::vector<int> a = numbers(16 * 32, 37);
  const std::vector<int> b = numbers(8 * 32, 61);
  const DeviceArray<int8_t> device_a(by_columns(a, 16, 32));
  const DeviceArray<int8_t> device_b(by_columns(b, 8, 32));
  const DeviceArray<int> d(16 * 8);
  check(launch(mma_kernel, {.block = 32}, reinterpret_cast<const uint4*>(device_a.data()),
               reinterpret_cast<const uint4*>(device_b.data()), d.data()),
        "mma");
  std::vector<int> expected = product(a, b, 16, 8, 32);
  for (int& value : expected) ++value;
  EXPECT_EQ(d.to_host(), expected);
}

// One warp: d[16][8] = a[16][8] * b[8][8]^T, of numbers that tf32 holds.
__global__ void mma_tf32_kernel(const float4* a, const float4* b, float* d) {
  SHARED(float4, tile_a, [16 * 2]);
  SHARED(float4, tile_b, [16 * 2]);  // two blocks of eight, of which the first is used
  const int lane = static_cast<int>(threadIdx.x);
  tile_a[lane] = a[lane];
  tile_b[lane] = b[lane % 16];
  __syncwarp();
  const int tile = lane / 8;
  uint32_t fragment_a[4];
  uint32_t fragment_b[4];
  ptx::ldmatrix_x4(fragment_a, tile_a + (8 * (tile % 2) + lane % 8) * 2 + tile / 2);
  ptx::ldmatrix_x4(fragment_b, tile_b + (8 * (tile / 2) + lane % 8) * 2 + tile % 2);
  const uint32_t pair[2] = {fragment_b[0], fragment_b[1]};
  float sum[4] = {1, 1, 1, 1};
  ptx::mma_m16n8k8_tf32(sum, fragment_a, pair, sum);
  for (int i = 0; i < 4; ++i) {
    d[8 * (lane / 4 + i / 2 * 8) + lane % 4 * 2 + i % 2] = sum[i];
  }
}

TEST(MmaTf32, MultipliesFragments) {
  const std::vector<int> a = numbers(16 * 8, 37);
  const std::vector<int> b = numbers(8 * 8, 61);
  const DeviceArray<float> device_a(std::vector<float>(a.begin(), a.end()));
  const DeviceArray<float> device_b(std::vector<float>(b.begin(), b.end()));
  const DeviceArray<float> d(16 * 8);
  check(launch(mma_tf32_kernel, {.block = 32}, reinterpret_cast<const float4*>(device_a.data()),
               reinterpret_cast<const float4*>(device_b.data()), d.data()),
        "mma");
  std::vector<float> expected;
  for (const int value : product(a, b, 16, 8, 8)) expected.push_back(static_cast<float>(value + 1));
  EXPECT_EQ(d.to_host(), expected);
}

__global__ void to_tf32_kernel(const float* from, uint32_t* to) {
  to[threadIdx.x] = ptx::to_tf32(from[threadIdx.x]);
}

TEST(MmaTf32, RoundsToElevenDigits) {
  const float ulp = 0x1p-10F;
  const std::vector<float> from = {1.0F,
                                   1.0F + 0.49F * ulp,
                                   1.0F + 0.5F * ulp,  // ties go away from zero
                                   -1.0F - 0.5F * ulp,
                                   1.0F + 0.51F * ulp,
                                   2.0F - 0x1p-23F,  // a carry
                                   0.0F,
                                   -0.0F,
                                   HUGE_VALF,
                                   -HUGE_VALF};
  const std::vector<float> expected = {1.0F, 1.0F, 1.0F + ulp, -1.0F - ulp, 1.0F + ulp,
                                       2.0F, 0.0F, -0.0F,      HUGE_VALF,   -HUGE_VALF};
  const DeviceArray<float> device_from(from);
  const DeviceArray<uint32_t> to(static_cast<int64_t>(from.size()));
  check(launch(to_tf32_kernel, {.block = static_cast<unsigned>(from.size())}, device_from.data(),
               to.data()),
        "to_tf32");
  const std::vector<uint32_t> got = to.to_host();
  for (size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(got[i], std::bit_cast<uint32_t>(expected[i])) << from[i];
  }
}

// Four warps: d[64][128] = a[64][64] * b[128][64]^T in two steps.
__global__ void __launch_bounds__(128) wgmma_kernel(const uint4* a, const uint4* b, int* d) {
#if defined(HYPERTOWER_HAS_WGMMA)
  DYN_SHARED(uint4, tile_a);
  uint4* const tile_b = tile_a + 4 * 64;
  for (int i = static_cast<int>(threadIdx.x); i < 4 * 64; i += 128) tile_a[i] = a[i];
  for (int i = static_cast<int>(threadIdx.x); i < 4 * 128; i += 128) tile_b[i] = b[i];
  ptx::fence_proxy_async();
  __syncthreads();
  int dots[64];
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < 2; ++step) {
    ptx::wgmma_m64n128k32_s8(dots, {tile_a + 2 * step * 64, 64 * 16},
                             {tile_b + 2 * step * 128, 128 * 16}, step > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    d[128 * (row + i % 4 / 2 * 8) + i / 4 * 8 + lane % 4 * 2 + i % 2] = dots[i];
  }
#endif
}

TEST(WgmmaInt8, MultipliesSharedColumns) {
  int major = 0;
  int minor = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  ASSERT_EQ(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), cudaSuccess);
  if (major != 9 || minor != 0) GTEST_SKIP() << "wgmma needs sm_90a";
  const std::vector<int> a = numbers(64 * 64, 37);
  const std::vector<int> b = numbers(128 * 64, 61);
  const DeviceArray<int8_t> device_a(by_columns(a, 64, 64));
  const DeviceArray<int8_t> device_b(by_columns(b, 128, 64));
  const DeviceArray<int> d(64 * 128);
  check(launch(wgmma_kernel, {.block = 128, .smem = 4 * (64 + 128) * sizeof(uint4)},
               reinterpret_cast<const uint4*>(device_a.data()),
               reinterpret_cast<const uint4*>(device_b.data()), d.data()),
        "wgmma");
  EXPECT_EQ(d.to_host(), product(a, b, 64, 128, 64));
}

}  // namespace
}  // namespace hypertower
