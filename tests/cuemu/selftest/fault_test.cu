// Each broken rule ends the process with a message that says which rule, who and where.
#include "kernels/cuda/launch.cuh"
#include "tests/cuemu/device_array.h"

#include <cassert>
#include <csignal>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower {
namespace {

using testing::DeviceArray;
using ::testing::ExitedWithCode;

class Fault : public ::testing::Test {
 protected:
  Fault() { ::testing::GTEST_FLAG(death_test_style) = "threadsafe"; }
};

template <class... P>
void run(void (*kernel)(P...), unsigned threads, std::type_identity_t<P>... args) {
  check(launch(kernel, {.block = threads, .name = "subject"}, args...), "subject");
}

#define EXPECT_FAULT(statement, message) EXPECT_EXIT(statement, ExitedWithCode(70), message)

__global__ void two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
__global__ void early_return() {
  if (threadIdx.x == 40) return;
  __syncthreads();
}
TEST_F(Fault, DivergentBarrier) {
  EXPECT_FAULT(run(two_barriers, 64),
               "divergent barrier: thread .* waits in __syncthreads at "
               ".*fault_test.cu:.*in kernel 'subject' launched at .*by block "
               ".0,0,0., thread .*schedule CUEMU_ORDER=");
  EXPECT_FAULT(run(early_return, 64), "divergent barrier: .*exit");
}

__global__ void foreign_mask() {
  __shfl_sync(0x0000ffffU, 1, 0);
}
__global__ void different_collectives() {
  if (threadIdx.x % 2 == 0) {
    __shfl_sync(kFullMask, 1, 0);
  } else {
    __ballot_sync(kFullMask, 1);
  }
}
__global__ void odd_width() {
  __shfl_sync(kFullMask, 1, 0, 3);
}
TEST_F(Fault, MisusedCollective) {
  EXPECT_FAULT(run(foreign_mask, 32), "lane .* is not in its own mask 0x0000ffff");
  EXPECT_FAULT(run(different_collectives, 32), "lanes of one warp are at different collectives");
  EXPECT_FAULT(run(odd_width, 32), "width 3 is not a power of two");
}

__global__ void half_warp_waits() {
  if (threadIdx.x < 16) __syncwarp();
  __syncthreads();
}
__global__ void spin(unsigned* flag) {
  while (load_acquire(flag) != 1) __nanosleep(10);
}
void spin_forever() {
  const DeviceArray<unsigned> flag(std::vector<unsigned>{0});
  run(spin, 2, flag.data());
}
TEST_F(Fault, NobodyCanGoOn) {
  EXPECT_FAULT(run(half_warp_waits, 32),
               "threads 0..15 wait in __syncwarp at .*"
               "threads 16..31 wait in __syncthreads at .*deadlock");
  EXPECT_FAULT(spin_forever(), "threads 0..1 spin in __nanosleep.*livelock");
}

__global__ void much_static() {
  SHARED(char, tile, [49 << 10]);
  tile[0] = 1;
}
__global__ void static_and_dynamic() {
  SHARED(char, tile, [20 << 10]);
  DYN_SHARED(char, more);
  tile[0] = more[0] = 1;
}
TEST_F(Fault, TooMuchSharedMemory) {
  EXPECT_FAULT(run(much_static, 1), "static shared memory exceeds 48 KiB with 'tile'");
  EXPECT_FAULT(check(launch(static_and_dynamic, {.smem = 210 << 10}), "shared"),
               "shared memory exceeds 227 KiB");
}

__global__ void never_waited(const float* in) {
  SHARED(float, tile, [4]);
  ptx::cp_async16(tile, in);
  ptx::cp_async_commit();
}
__global__ void misaligned_copy(const float* in) {
  SHARED(float, tile, [8]);
  ptx::cp_async16(tile + 1, in);
}
__global__ void copy_past_the_end(const float* in) {
  SHARED(float, tile, [8]);
  ptx::cp_async16(tile, in + 4);
}
__global__ void unknown_mbarrier() {
  SHARED(uint64_t, bar, );
  ptx::mbarrier_wait(&bar, 0);
}
__global__ void too_many_arrivals() {
  SHARED(uint64_t, bar, );
  ptx::mbarrier_init(&bar, 2);
  ptx::mbarrier_arrive_expect(&bar, 16);
  ptx::mbarrier_arrive(&bar);
  ptx::mbarrier_arrive(&bar);
}
void with_floats(void (*kernel)(const float*)) {
  const DeviceArray<float> in(6);
  run(kernel, 1, in.data());
}
TEST_F(Fault, MisusedCopy) {
  EXPECT_FAULT(with_floats(never_waited), "cp.async at .* was never waited for");
  EXPECT_FAULT(with_floats(misaligned_copy), "addresses must be multiples of 16 bytes");
  EXPECT_FAULT(with_floats(copy_past_the_end),
               "16 bytes of source are not within one device "
               "allocation; 16 bytes into a live device allocation "
               "of 24 bytes");
  EXPECT_FAULT(run(unknown_mbarrier, 1), "mbarrier was never initialised");
  EXPECT_FAULT(run(too_many_arrivals, 1), "more arrivals than the 2");
}

__global__ void write(int* p, int index) {
  p[index] = 1;
}
__global__ void misaligned_atomic(char* p) {
  atomicAdd(reinterpret_cast<int*>(p + 2), 1);
}
void add_misaligned() {
  const DeviceArray<char> bytes(8);
  run(misaligned_atomic, 1, bytes.data());
}
TEST_F(Fault, PointerThatADeviceCannotFollow) {
  int host = 0;
  EXPECT_FAULT(run(write, 1, &host, 0),
               "argument 0 of kernel 'subject' launched at .* is a pointer "
               "to host memory");
  EXPECT_FAULT(add_misaligned(), "an atomic on 4 bytes at the misaligned address");
}

__global__ void trap() {
  __trap();
}
__global__ void broken_promise(int* p) {
  assert(p != nullptr);
}
TEST_F(Fault, StoppedByTheKernel) {
  EXPECT_FAULT(run(trap, 1), "__trap");
  EXPECT_EXIT(run(broken_promise, 1, nullptr), ::testing::KilledBySignal(SIGABRT),
              "Assertion .p != nullptr. failed.*Aborted.*in kernel 'subject'");
}

void launch_with(const char* name, const char* value) {
  setenv(name, value, 1);
  run(write, 1, nullptr, 0);
}
TEST_F(Fault, UnknownSchedule) {
  EXPECT_FAULT(launch_with("CUEMU_ORDER", "random"),
               "CUEMU_ORDER: expected fwd, rev or rand, got 'random'");
  EXPECT_FAULT(launch_with("CUEMU_RESIDENT", "0"), "CUEMU_RESIDENT: expected a number from 1 to");
}

void leak() {
  void* lost = nullptr;
  cudaMalloc(&lost, 100);
  std::exit(0);
}
TEST_F(Fault, Leak) {
  EXPECT_EXIT(leak(), ExitedWithCode(71), "100 bytes of device memory, 0 streams .* not freed");
}

TEST(Refusal, OfTheRuntimeLeavesAnError) {
  const DeviceArray<int> device(4);
  int host[8] = {};
  EXPECT_EQ(cudaMemcpy(host, host, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(device.data(), device.data(), 4, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host, device.data(), 20, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(host, 0, 4), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(device.data() + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorInvalidDevice), "cudaErrorInvalidDevice");
}

#if defined(CUEMU_VARIANT_ASAN)
void host_reads() {
  const DeviceArray<int> device(4);
  std::exit(*static_cast<volatile int*>(device.data()));
}
TEST_F(Fault, HostTouchesDeviceMemory) {
  EXPECT_DEATH(host_reads(),
               "0 bytes into a live device allocation of 16 bytes; host code must not "
               "touch device memory");
}
#endif

#if defined(CUEMU_VARIANT_PLAIN)
// Without a sanitizer, guard pages and red zones still name the allocation.
using ::testing::KilledBySignal;

void kernel_writes(size_t size, int index) {
  const DeviceArray<int> device(size);
  run(write, 1, device.data(), index);
}
void kernel_writes_freed() {
  int* stale = nullptr;
  {
    const DeviceArray<int> device(64);
    stale = device.data();
  }
  struct Hidden {
    int* p;
  };
  check(launch(
            +[](Hidden h) { *h.p = 1; }, {}, Hidden{stale}),
        "freed");
}
__global__ void shared_overrun(int index) {
  SHARED(int, tile, [10]);
  tile[index] = 1;
}
int recurse(int depth) {
  volatile char frame[1000];
  frame[depth % 1000] = 1;
  return depth == 0 ? frame[0] : recurse(depth - 1) + frame[depth % 1000];
}
__global__ void deep() {
  recurse(1000);
}

TEST_F(Fault, WildAccess) {
  EXPECT_FAULT(kernel_writes(5, 5), "written 0 bytes past the end of an allocation of 20 bytes");
  EXPECT_FAULT(kernel_writes(64, -1), "written before the start of an allocation of 256 bytes");
  EXPECT_EXIT(kernel_writes(64, 100), KilledBySignal(SIGSEGV),
              "144 bytes past the end of a live device allocation of 256 bytes");
  EXPECT_EXIT(kernel_writes_freed(), KilledBySignal(SIGSEGV), "freed device allocation");
  EXPECT_FAULT(run(shared_overrun, 1, 10), "written 0 bytes past the end of 'tile' .40 bytes");
  EXPECT_FAULT(run(shared_overrun, 1, -1), "written 4 bytes before 'tile'");
  EXPECT_EXIT(run(deep, 1), KilledBySignal(SIGSEGV), "stack overflowed");
}
#endif

}  // namespace
}  // namespace hypertower
