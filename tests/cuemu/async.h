// Twins of the copy and barrier wrappers of kernels/cuda/ptx.cuh.
#pragma once

#include "tests/cuemu/core.h"
#include "tests/cuemu/device.h"

namespace hypertower::ptx {

inline void cp_async16(void* shared, const void* global, bool valid = true, CUEMU_HERE) {
  cuemu::async_copy(shared, global, 16, valid ? 16 : 0, {"cp.async", file, line});
}
inline void cp_async_commit() {
  cuemu::async_commit();
}
template <int kGroupsLeft>
void cp_async_wait() {
  cuemu::async_wait(kGroupsLeft);
}

inline float4 ld_nc(const float4* p) {
  return *p;
}
inline uint4 ld_nc(const uint4* p) {
  return *p;
}

inline void bar_sync(int id, int threads, CUEMU_HERE) {
  cuemu::named_barrier(id, threads, {"bar.sync", file, line});
}

inline void mbarrier_init(uint64_t* bar, unsigned arrivals, CUEMU_HERE) {
  cuemu::mbarrier_init(bar, arrivals, {"mbarrier.init", file, line});
}
inline void fence_barrier_init() {}
inline void mbarrier_arrive(uint64_t* bar, CUEMU_HERE) {
  cuemu::mbarrier_arrive(bar, 0, {"mbarrier.arrive", file, line});
}
inline void mbarrier_arrive_expect(uint64_t* bar, unsigned bytes, CUEMU_HERE) {
  cuemu::mbarrier_arrive(bar, bytes, {"mbarrier.arrive.expect_tx", file, line});
}
inline void mbarrier_wait(uint64_t* bar, unsigned parity, CUEMU_HERE) {
  cuemu::mbarrier_wait(bar, parity, {"mbarrier.try_wait", file, line});
}
inline void bulk_copy(void* shared, const void* global, unsigned bytes, uint64_t* bar, CUEMU_HERE) {
  cuemu::bulk_copy(shared, global, bytes, bar, {"cp.async.bulk", file, line});
}

}  // namespace hypertower::ptx
