#include <gtest/gtest.h>
#include <numeric>
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"
using namespace hypertower;
using hypertower::testing::DeviceArray;
template <int kBlock>
__global__ void sum(const float* x, int64_t n, float* y) {
  SHARED(float, scratch, [33]);
  float v = 0;
  for (int64_t i = blockIdx.x * kBlock + threadIdx.x; i < n; i += gridDim.x * kBlock) v += x[i];
  v = block_reduce_sum<kBlock>(v, scratch);
  if (threadIdx.x == 0) atomicAdd(y, v);
}
TEST(Smoke, Sum) {
  std::vector<float> h(1000);
  std::iota(h.begin(), h.end(), 0.F);
  DeviceArray<float> x(h), y(std::vector<float>{0.F});
  check(launch(sum<128>, {.grid = 3, .block = 128, .name = "sum"}, x.data(), 1000, y.data()),
        "sum");
  EXPECT_EQ(y.to_host()[0], 499500.F);
}
