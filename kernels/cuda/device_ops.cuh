// Device helpers that every kernel may use: reductions over a warp or block, and publishing between
// blocks. Included by kernels/cuda/launch.cuh; do not include it alone.
#pragma once

namespace hypertower {

inline constexpr unsigned kFullMask = 0xffffffffU;

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

__device__ __forceinline__ unsigned lane_index() {
  return threadIdx.x % 32;
}

// Butterfly sums and maxima: every lane gets the same bits. All 32 lanes must call.
// REQUIRES: one-dimensional blocks whose size is a multiple of 32.
template <class T>
__device__ __forceinline__ T warp_reduce_sum(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullMask, value, offset);
  return value;
}

template <class T>
__device__ __forceinline__ T warp_reduce_max(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullMask, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

template <class T>
__device__ __forceinline__ T warp_reduce_min(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kFullMask, value, offset);
    value = other < value ? other : value;
  }
  return value;
}

// Lane l gets the sum over lanes 0..l.
template <class T>
__device__ __forceinline__ T warp_inclusive_sum(T value) {
  const unsigned lane = lane_index();
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const T other = __shfl_up_sync(kFullMask, value, offset);
    if (lane >= static_cast<unsigned>(offset)) value += other;
  }
  return value;
}

// Sum over the block, the same bits in every thread; fixed order. `scratch` is shared memory of 33
// elements and free again on return. All threads must call; kBlock is blockDim.x.
template <int kBlock, class T>
__device__ T block_reduce_sum(T value, T* scratch) {
  static_assert(kBlock % 32 == 0 && kBlock <= 1024, "whole warps only");
  value = warp_reduce_sum(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 32) {
    T sum = threadIdx.x < kBlock / 32 ? scratch[threadIdx.x] : T(0);
    sum = warp_reduce_sum(sum);
    if (threadIdx.x == 0) scratch[32] = sum;
  }
  __syncthreads();
  const T result = scratch[32];
  __syncthreads();
  return result;
}

// Lane t gets the sum over threads 0..t of the block; *total the sum over all. As above.
template <int kBlock, class T>
__device__ T block_inclusive_sum(T value, T* scratch, T* total) {
  static_assert(kBlock % 32 == 0 && kBlock <= 1024, "whole warps only");
  value = warp_inclusive_sum(value);
  if (threadIdx.x % 32 == 31) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 32) {
    const T own = threadIdx.x < kBlock / 32 ? scratch[threadIdx.x] : T(0);
    const T sum = warp_inclusive_sum(own);
    __syncwarp();
    scratch[threadIdx.x] = sum - own;
    if (threadIdx.x == 31) scratch[32] = sum;
  }
  __syncthreads();
  value += scratch[threadIdx.x / 32];
  *total = scratch[32];
  __syncthreads();
  return value;
}

// Publishing between blocks of one device. What a thread wrote before store_release (or the add) is
// visible to a thread that reads the value with load_acquire (or the add).
template <class T>
__device__ __forceinline__ T load_acquire(T* p) {
  return ::cuda::atomic_ref<T, ::cuda::thread_scope_device>(*p).load(
      ::cuda::std::memory_order_acquire);
}
template <class T>
__device__ __forceinline__ void store_release(T* p, std::type_identity_t<T> value) {
  ::cuda::atomic_ref<T, ::cuda::thread_scope_device>(*p).store(value,
                                                               ::cuda::std::memory_order_release);
}
template <class T>
__device__ __forceinline__ T fetch_add_acq_rel(T* p, std::type_identity_t<T> value) {
  return ::cuda::atomic_ref<T, ::cuda::thread_scope_device>(*p).fetch_add(
      value, ::cuda::std::memory_order_acq_rel);
}
template <class T>
__device__ __forceinline__ T load_relaxed(T* p) {
  return ::cuda::atomic_ref<T, ::cuda::thread_scope_device>(*p).load(
      ::cuda::std::memory_order_relaxed);
}

}  // namespace hypertower
