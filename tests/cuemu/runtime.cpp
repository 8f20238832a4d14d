#include "tests/cuemu/runtime.h"

#include "tests/cuemu/core.h"
#include "tests/cuemu/launch.h"
#include "tests/cuemu/streams.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <unistd.h>

namespace {

using cuemu::done;
using cuemu::MemoryKind;

constexpr size_t kTotalMemory = size_t{16} << 30;
constexpr size_t kSharedPerMultiprocessor = size_t{228} << 10;
constexpr size_t kSharedPerBlock = size_t{227} << 10;
constexpr int kMaxThreads = 2048;
constexpr int kMaxBlocks = 32;
constexpr int kLeakExit = 71;

// A refused call also says why, which the real runtime does not.
template <class... A>
cudaError_t refuse(cudaError_t status, const char* format, A... args) {
  std::fprintf(stderr, "cuemu: ");
  std::fprintf(stderr, format, args...);
  std::fprintf(stderr, "\n");
  return done(status);
}

// What is still allocated when the program ends, with all work of streams done, was leaked. Fails
// the run, as LeakSanitizer does.
void report_leaks() {
  cuemu::finish_device();
  if (cuemu::live_bytes() == 0 && cuemu::live_handles() == 0) return;
  std::fflush(stdout);
  std::fprintf(stderr, "cuemu: %zu bytes of device memory, %d streams and events were not freed\n",
               cuemu::live_bytes(), cuemu::live_handles());
  std::fflush(stderr);
  _exit(kLeakExit);
}

cudaError_t allocate(void** pointer, size_t bytes, MemoryKind kind, const char* call) {
  [[maybe_unused]] static const int registered = std::atexit(report_leaks);
  if (pointer == nullptr) return refuse(cudaErrorInvalidValue, "%s: the pointer is null", call);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (cuemu::live_bytes() + bytes > kTotalMemory) return done(cudaErrorMemoryAllocation);
  *pointer = cuemu::allocate(bytes, kind);
  return done(*pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t free_memory(void* pointer, MemoryKind kind, const char* call) {
  if (pointer == nullptr || cuemu::release(pointer, kind)) return cudaSuccess;
  if (kind == MemoryKind::kDevice && cuemu::release(pointer, MemoryKind::kManaged)) {
    return cudaSuccess;
  }
  return refuse(cudaErrorInvalidValue, "%s(%p): not a live allocation of this kind", call, pointer);
}

bool reachable(const void* pointer, bool device, size_t bytes, const char* call, const char* what) {
  size_t left = 0;
  const MemoryKind kind = cuemu::memory_kind(pointer, &left);
  if (kind == MemoryKind::kPlain ? device : (!device && kind == MemoryKind::kDevice)) {
    refuse(cudaErrorInvalidValue, "%s: the %s %p is not %s memory", call, what, pointer,
           device ? "device" : "host");
    return false;
  }
  if (kind != MemoryKind::kPlain && left < bytes) {
    refuse(cudaErrorInvalidValue, "%s: %zu bytes exceed the %s, which has %zu left", call, bytes,
           what, left);
    return false;
  }
  return true;
}

bool is_device(const void* pointer) {
  return cuemu::memory_kind(pointer) == MemoryKind::kDevice;
}

bool is_pageable(const void* pointer) {
  return cuemu::memory_kind(pointer) == MemoryKind::kPlain;
}

cudaError_t dead_stream(const char* call) {
  return refuse(cudaErrorInvalidResourceHandle, "%s: not a live stream", call);
}

struct Copy {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch, width, height;
  cudaMemcpyKind kind;
  const char* call;

  cudaError_t check() const {
    const bool from_device = kind == cudaMemcpyDefault ? is_device(from) : (kind & 2) != 0;
    const bool to_device = kind == cudaMemcpyDefault
                               ? is_device(to)
                               : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    if (height > 1 && (to_pitch < width || from_pitch < width)) {
      return refuse(cudaErrorInvalidValue, "%s: a pitch is less than the width %zu", call, width);
    }
    const bool fits =
        reachable(from, from_device, (height - 1) * from_pitch + width, call, "source") &&
        reachable(to, to_device, (height - 1) * to_pitch + width, call, "destination");
    return fits ? cudaSuccess : cudaErrorInvalidValue;
  }
  void run() const {
    const cuemu::HostAccess access;
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<char*>(to) + row * to_pitch,
                   static_cast<const char*>(from) + row * from_pitch, width);
    }
  }
  // Work may run long after the call: the memory must still be there.
  void run_late() const {
    if (check() != cudaSuccess) cuemu::fault("%s ran after its memory was freed", call);
    run();
  }
};

cudaError_t enqueue(const Copy& copy, cudaStream_t stream, bool wait) {
  if (!cuemu::is_stream(stream)) return dead_stream(copy.call);
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (const cudaError_t status = copy.check()) return status;
  if (!wait && cuemu::schedule().late_streams && is_pageable(copy.from)) {
    auto bytes = std::make_shared<std::vector<char>>(copy.width * copy.height);
    Copy staged = copy;
    staged.from = bytes->data();
    staged.from_pitch = copy.width;
    Copy stage = copy;
    stage.to = bytes->data();
    stage.to_pitch = copy.width;
    stage.run();
    cuemu::submit(stream, [staged, bytes] { staged.run_late(); });
  } else {
    cuemu::submit(stream, [copy] { copy.run_late(); });
  }
  if (wait || is_pageable(copy.to)) cuemu::finish(stream);
  return cudaSuccess;
}

}  // namespace

namespace cuemu {

cudaError_t submit_grid(const Grid& grid, cudaStream_t stream, std::shared_ptr<const void> call) {
  if (!is_stream(stream)) return dead_stream("launch");
  if (const char* why = refusal(grid)) {
    const cudaError_t status = grid.cooperative ? cudaErrorCooperativeLaunchTooLarge
                               : grid.dynamic_shared > kSharedPerBlock
                                   ? cudaErrorInvalidValue
                                   : cudaErrorInvalidConfiguration;
    return refuse(status, "kernel '%s' launched at %s:%d: %s",
                  grid.name != nullptr ? grid.name : "?", grid.file, grid.line, why);
  }
  submit(stream, [grid, call = std::move(call)] { run_grid(grid); });
  return cudaSuccess;
}

cudaError_t function_attribute(cudaFuncAttribute attribute, int value) {
  const bool too_much = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
                        (value < 0 || static_cast<size_t>(value) > kSharedPerBlock);
  return too_much ? refuse(cudaErrorInvalidValue, "cudaFuncSetAttribute: %d bytes of shared memory",
                           value)
                  : cudaSuccess;
}

cudaError_t occupancy(int* blocks, int block_size, size_t dynamic_shared) {
  if (block_size < 1 || block_size > 1024) return done(cudaErrorInvalidValue);
  const int warps = (block_size + 31) / 32;
  int n = kMaxThreads / (32 * warps);
  const size_t shared = dynamic_shared + 1024;  // the system keeps 1 KiB of each block
  if (static_cast<size_t>(n) * shared > kSharedPerMultiprocessor) {
    n = static_cast<int>(kSharedPerMultiprocessor / shared);
  }
  *blocks = n < kMaxBlocks ? n : kMaxBlocks;
  return cudaSuccess;
}

}  // namespace cuemu

cudaError_t cudaMalloc(void** p, size_t n) {
  return allocate(p, n, MemoryKind::kDevice, "cudaMalloc");
}
cudaError_t cudaFree(void* p) {
  cuemu::finish_device();
  return free_memory(p, MemoryKind::kDevice, "cudaFree");
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t stream) {
  if (!cuemu::is_stream(stream)) return dead_stream("cudaMallocAsync");
  return allocate(p, n, MemoryKind::kDevice, "cudaMallocAsync");
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  if (!cuemu::is_stream(stream)) return dead_stream("cudaFreeAsync");
  if (p != nullptr && !is_device(p)) return free_memory(p, MemoryKind::kDevice, "cudaFreeAsync");
  cuemu::submit(stream, [p] {
    if (free_memory(p, MemoryKind::kDevice, "cudaFreeAsync") != cudaSuccess) {
      cuemu::fault("cudaFreeAsync(%p): freed before", p);
    }
  });
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t n) {
  return allocate(p, n, MemoryKind::kPinned, "cudaMallocHost");
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
  return cudaMallocHost(p, n);
}
cudaError_t cudaFreeHost(void* p) {
  cuemu::finish_device();
  return free_memory(p, MemoryKind::kPinned, "cudaFreeHost");
}
cudaError_t cudaMallocManaged(void** p, size_t n) {
  return allocate(p, n, MemoryKind::kManaged, "cudaMallocManaged");
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind kind) {
  return enqueue({to, n, from, n, n, 1, kind, "cudaMemcpy"}, nullptr, true);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return enqueue({to, n, from, n, n, 1, kind, "cudaMemcpyAsync"}, stream, false);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind) {
  return enqueue({to, to_pitch, from, from_pitch, width, height, kind, "cudaMemcpy2D"}, nullptr,
                 true);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  return enqueue({to, to_pitch, from, from_pitch, width, height, kind, "cudaMemcpy2DAsync"}, stream,
                 false);
}
cudaError_t cudaMemset(void* p, int value, size_t n) {
  return cudaMemsetAsync(p, value, n, nullptr);
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t stream) {
  if (!cuemu::is_stream(stream)) return dead_stream("cudaMemsetAsync");
  if (n == 0) return cudaSuccess;
  if (!reachable(p, true, n, "cudaMemset", "destination")) return cudaErrorInvalidValue;
  cuemu::submit(stream, [=] {
    if (!reachable(p, true, n, "cudaMemset", "destination")) {
      cuemu::fault("cudaMemset ran after its memory was freed");
    }
    const cuemu::HostAccess access;
    std::memset(p, value, n);
  });
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  if (device != 0) return done(cudaErrorInvalidDevice);
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = kTotalMemory;
  *free_bytes = kTotalMemory - cuemu::live_bytes();
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  static constexpr cudaMemoryType kTypes[] = {cudaMemoryTypeUnregistered, cudaMemoryTypeDevice,
                                              cudaMemoryTypeHost, cudaMemoryTypeManaged};
  const MemoryKind kind = cuemu::memory_kind(pointer);
  void* p = const_cast<void*>(pointer);
  *attributes = {kTypes[static_cast<int>(kind)], 0, kind == MemoryKind::kPlain ? nullptr : p,
                 kind == MemoryKind::kDevice ? nullptr : p};
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : done(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return done(cudaErrorInvalidDevice);
  *p = {"emulated on the CPU",
        kTotalMemory,
        size_t{48} << 10,
        kSharedPerBlock,
        kSharedPerMultiprocessor,
        32,
        1024,
        kMaxThreads,
        1,
        9,
        0,
        50 << 20,
        1};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t status = cudaGetDeviceProperties(&p, device)) return status;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = p.cooperativeLaunch;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    default:
      return done(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}
#define CUEMU_ERRORS(X)                                                          \
  X(cudaSuccess, "no error")                                                     \
  X(cudaErrorInvalidValue, "invalid argument")                                   \
  X(cudaErrorMemoryAllocation, "out of memory")                                  \
  X(cudaErrorInvalidConfiguration, "invalid configuration argument")             \
  X(cudaErrorInvalidDevicePointer, "invalid device pointer")                     \
  X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")        \
  X(cudaErrorNoDevice, "no CUDA-capable device is detected")                     \
  X(cudaErrorInvalidDevice, "invalid device ordinal")                            \
  X(cudaErrorInvalidResourceHandle, "invalid resource handle")                   \
  X(cudaErrorNotReady, "device not ready")                                       \
  X(cudaErrorIllegalAddress, "an illegal memory access was encountered")         \
  X(cudaErrorLaunchFailure, "unspecified launch failure")                        \
  X(cudaErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch") \
  X(cudaErrorNotSupported, "operation not supported")

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define CUEMU_NAME(name, text) \
  case name:                   \
    return #name;
    CUEMU_ERRORS(CUEMU_NAME)
#undef CUEMU_NAME
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define CUEMU_TEXT(name, text) \
  case name:                   \
    return text;
    CUEMU_ERRORS(CUEMU_TEXT)
#undef CUEMU_TEXT
  }
  return "unrecognized error code";
}
