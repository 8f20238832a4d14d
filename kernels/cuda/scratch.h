// Device memory that lives as long as one op's work on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/launch.cuh"

namespace hypertower::cuda {

// What ops gave back stays in the device's pool, up to this: without it each synchronisation hands
// it to the driver, and asking again takes longer than most ops.
inline constexpr uint64_t kKeptBytes = uint64_t{1} << 30;

inline void keep_freed_memory() {
  static std::atomic<uint64_t> done{0};  // a bit per device
  int device = 0;
  check(cudaGetDevice(&device), "scratch memory");
  const uint64_t bit = uint64_t{1} << (device % 64);
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return;
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "scratch memory");
  uint64_t kept = kKeptBytes;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "scratch memory");
  done.fetch_or(bit, std::memory_order_relaxed);
}

// `size` uninitialised elements, taken and given back in stream order: later work of the stream may
// reuse the memory, earlier work never sees it change. Throws Error when memory runs out.
template <class T>
class Scratch {
 public:
  Scratch(size_t size, cudaStream_t stream) : stream_(stream) {
    if (size == 0) return;
    keep_freed_memory();
    check(cudaMallocAsync(reinterpret_cast<void**>(&data_), size * sizeof(T), stream),
          "scratch memory");
  }
  ~Scratch() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  cudaStream_t stream_;
};

// Copies `size` elements to the host. Synchronises the stream.
template <class T>
std::vector<T> to_host(const T* device, size_t size, cudaStream_t stream) {
  std::vector<T> host(size);
  if (size != 0) {
    check(cudaMemcpyAsync(host.data(), device, size * sizeof(T), cudaMemcpyDeviceToHost, stream),
          "copy to the host");
  }
  check(cudaStreamSynchronize(stream), "synchronisation");
  return host;
}

}  // namespace hypertower::cuda
