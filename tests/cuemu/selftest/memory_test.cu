// Shared memory, atomics, publishing between blocks, and the runtime's copies.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;

template <class T>
std::vector<T> copies_of(size_t n, T value) {
  return std::vector<T>(n, value);
}

template <int kRows>
__global__ void transpose_kernel(const float* in, float* out) {
  SHARED(float, tile, [kRows][kRows + 1]);
  SHARED(int, filled, );
  DYN_SHARED(float, bias);
  const int row = static_cast<int>(threadIdx.y);
  const int column = static_cast<int>(threadIdx.x);
  const float* block_in = in + blockIdx.x * kRows * kRows;
  if (row == 0 && column == 0) filled = 0;
  if (row == 0) bias[column] = static_cast<float>(column);
  __syncthreads();
  tile[row][column] = block_in[row * kRows + column];
  atomicAdd(&filled, 1);
  __syncthreads();
  out[blockIdx.x * kRows * kRows + row * kRows + column] =
      tile[column][row] + bias[row] + static_cast<float>(filled);
}

template <int kRows>
void expect_transposed() {
  constexpr int kArea = kRows * kRows;
  std::vector<float> values(3 * kArea);
  std::iota(values.begin(), values.end(), 1.0F);
  const DeviceArray<float> in(values);
  const DeviceArray<float> out(values.size());
  check(launch(transpose_kernel<kRows>,
               {.grid = 3, .block = dim3(kRows, kRows), .smem = kRows * sizeof(float)}, in.data(),
               out.data()),
        "transpose");
  const std::vector<float> got = out.to_host();
  for (int i = 0; i < 3 * kArea; ++i) {
    const int row = i % kArea / kRows;
    const int column = i % kRows;
    EXPECT_EQ(got[i], values[i / kArea * kArea + column * kRows + row] + row + kArea);
  }
}

TEST(Shared, IsPerBlockAndPerInstantiation) {
  expect_transposed<4>();
  expect_transposed<13>();
}

__global__ void large_shared_kernel(int words, int* out) {
  DYN_SHARED(int, tile);
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 64) tile[i] = i;
  __syncthreads();
  int sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 64) sum += tile[words - 1 - i] & 7;
  atomicAdd(out, sum);
}

TEST(Shared, MayExceed48KiB) {
  const int words = 100 * 1024 / 4;
  const DeviceArray<int> out(copies_of(1, 0));
  check(launch(large_shared_kernel, {.block = 64, .smem = words * sizeof(int)}, words, out.data()),
        "large shared");
  EXPECT_EQ(out.to_host()[0], words / 8 * 28);
}

__global__ void atomic_kernel(int* i, unsigned* u, unsigned long long* l, float* f, double* d) {
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const auto v = static_cast<unsigned>(t);
  atomicAdd(i, t);
  atomicSub(i + 1, t);
  atomicMax(i + 2, t);
  atomicMin(i + 3, -t);
  atomicOr(u, 1U << (t % 32));
  atomicAnd(u + 1, ~(1U << (t % 32)));
  atomicXor(u + 2, v);
  atomicInc(u + 3, 6U);
  atomicMax(l, static_cast<unsigned long long>(t) << 33);
  atomicAdd(l + 1, 1ULL << 32);
  atomicAdd(f, 0.5F);
  atomicAdd(d, 0.25);
  float old = load_relaxed(f + 1);
  for (;;) {  // an addition spelled with compare-and-swap
    auto* bits = reinterpret_cast<unsigned*>(f + 1);
    const unsigned seen = atomicCAS(bits, __float_as_uint(old), __float_as_uint(old + 1.0F));
    if (seen == __float_as_uint(old)) break;
    old = __uint_as_float(seen);
  }
}

TEST(Atomics, LoseNoUpdate) {
  constexpr int kThreads = 4 * 64;
  const DeviceArray<int> i(copies_of(4, 0));
  const DeviceArray<unsigned> u(std::vector<unsigned>{0, ~0U, 0, 0});
  const DeviceArray<unsigned long long> l(copies_of(2, 0ULL));
  const DeviceArray<float> f(copies_of(2, 0.0F));
  const DeviceArray<double> d(copies_of(1, 0.0));
  check(launch(atomic_kernel, {.grid = 4, .block = 64}, i.data(), u.data(), l.data(), f.data(),
               d.data()),
        "atomics");
  const int sum = kThreads * (kThreads - 1) / 2;
  EXPECT_EQ(i.to_host(), (std::vector<int>{sum, -sum, kThreads - 1, 1 - kThreads}));
  EXPECT_EQ(u.to_host(), (std::vector<unsigned>{~0U, 0, 0, kThreads % 7}));
  EXPECT_EQ(l.to_host(), (std::vector<unsigned long long>{255ULL << 33, 256ULL << 32}));
  EXPECT_EQ(f.to_host(), (std::vector<float>{kThreads / 2, kThreads}));
  EXPECT_EQ(d.to_host()[0], kThreads / 4);
}

// Each block writes a partial sum; the one that counts last adds them up.
__global__ void last_block_kernel(const int* in, int* partial, unsigned* count, int* out) {
  SHARED(int, scratch, [33]);
  SHARED(int, is_last, );
  const int sum = block_reduce_sum<64>(in[blockIdx.x * 64 + threadIdx.x], scratch);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    is_last = fetch_add_acq_rel(count, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last == 0) return;
  int mine = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += 64) mine += partial[i];
  const int total = block_reduce_sum<64>(mine, scratch);
  if (threadIdx.x == 0) *out = total;
}

TEST(Publishing, LastBlockSeesAllPartialSums) {
  std::vector<int> values(7 * 64);
  std::iota(values.begin(), values.end(), -100);
  const DeviceArray<int> in(values);
  const DeviceArray<int> partial(7);
  const DeviceArray<unsigned> count(copies_of(1, 0U));
  const DeviceArray<int> out(1);
  check(launch(last_block_kernel, {.grid = 7, .block = 64}, in.data(), partial.data(), count.data(),
               out.data()),
        "last block");
  EXPECT_EQ(out.to_host()[0], std::accumulate(values.begin(), values.end(), 0));
}

// All blocks alive: each waits for its left neighbour's value of the round before.
__global__ void ring_kernel(int rounds, int* values, unsigned* ready) {
  const unsigned me = blockIdx.x;
  const unsigned left = (me + gridDim.x - 1) % gridDim.x;
  for (int round = 1; round <= rounds; ++round) {
    while (load_acquire(ready + left) < static_cast<unsigned>(round - 1)) __nanosleep(20);
    const int sum = round == 1 ? 1 : values[(round - 1) * gridDim.x + left] + 1;
    values[round * gridDim.x + me] = sum;
    store_release(ready + me, static_cast<unsigned>(round));
  }
}

TEST(Publishing, CooperativeBlocksWaitForEachOther) {
  constexpr int kBlocks = 5;
  constexpr int kRounds = 6;
  const DeviceArray<int> values(copies_of(kBlocks * (kRounds + 1), 0));
  const DeviceArray<unsigned> ready(copies_of(kBlocks, 0U));
  check(launch(ring_kernel, {.grid = kBlocks, .block = 1, .cooperative = true}, kRounds,
               values.data(), ready.data()),
        "ring");
  for (int i = 0; i < kBlocks; ++i) EXPECT_EQ(values.to_host()[kRounds * kBlocks + i], kRounds);
}

__global__ void index_kernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = static_cast<int>(thread);
}

TEST(Launch, CoversThreeDimensions) {
  const DeviceArray<int> out(copies_of(24 * 30, -1));
  check(launch(index_kernel, {.grid = dim3(2, 3, 4), .block = dim3(5, 3, 2)}, out.data()), "index");
  const std::vector<int> got = out.to_host();
  for (int i = 0; i < 24 * 30; ++i) EXPECT_EQ(got[i], i % 30);
}

TEST(Launch, ReportsWhatDoesNotFit) {
  const DeviceArray<int> out(1);
  EXPECT_NE(launch(index_kernel, {.grid = 1, .block = 1025}, out.data()), cudaSuccess);
  EXPECT_NE(launch(index_kernel, {.grid = 0, .block = 32}, out.data()), cudaSuccess);
  EXPECT_NE(launch(index_kernel, {.block = 32, .smem = 300 << 10}, out.data()), cudaSuccess);
  EXPECT_NE(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_THROW(check(cudaErrorInvalidValue, "here"), Error);
}

TEST(Runtime, CopiesAndFills) {
  std::vector<int> values(12);
  std::iota(values.begin(), values.end(), 0);
  const DeviceArray<int> a(values);
  const DeviceArray<int> b(12);
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(b.data(), 0, 48, stream), cudaSuccess);
  ASSERT_EQ(
      cudaMemcpy2DAsync(b.data(), 16, a.data() + 1, 12, 8, 3, cudaMemcpyDeviceToDevice, stream),
      cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream, event, 0), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(b.to_host(), (std::vector<int>{1, 2, 0, 0, 4, 5, 0, 0, 7, 8, 0, 0}));
  ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST(Runtime, KnowsItsPointers) {
  const DeviceArray<int> device(4);
  int host = 0;
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 16), cudaSuccess);
  cudaPointerAttributes attributes{};
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, device.data() + 1), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, &host), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, pinned), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

}  // namespace
}  // namespace hypertower
