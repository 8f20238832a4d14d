#include "tests/cuemu/streams.h"

#include "tests/cuemu/core.h"
#include "tests/cuemu/machine.h"

#include <chrono>
#include <deque>
#include <mutex>
#include <set>
#include <utility>

struct CUstream_st {
  bool blocking;
  struct Work {
    uint64_t number;
    std::function<void()> run;
  };
  std::deque<Work> queue;
};

struct CUevent_st {
  bool timing = false, recorded = false;
  cudaStream_t stream = nullptr;
  uint64_t number = 0;  // of the work that records it
  std::chrono::steady_clock::time_point time{};
};

namespace cuemu {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

// Work is numbered in the order of the calls, over all streams. Guarded by machine_mutex().
struct Device {
  CUstream_st null{true, {}};
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  uint64_t numbers = 0;
};

Device& device() {
  static auto* d = new Device;  // never destroyed: memory may be freed during exit
  return *d;
}

CUstream_st* queue_of(cudaStream_t stream) {
  return stream == nullptr ? &device().null : stream;
}

void run_until(CUstream_st* stream, uint64_t number) {
  while (!stream->queue.empty() && stream->queue.front().number <= number) {
    const CUstream_st::Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (stream == &device().null) {
      for (const cudaStream_t other : device().streams) {
        if (other->blocking) run_until(other, work.number);
      }
    } else if (stream->blocking) {
      run_until(&device().null, work.number);
    }
    work.run();
  }
}

void run_until_recorded(cudaStream_t stream, uint64_t number) {
  if (is_stream(stream)) run_until(queue_of(stream), number);  // a dead stream has run already
}

bool is_event(cudaEvent_t event) {
  return device().events.contains(event);
}

}  // namespace

bool is_stream(cudaStream_t stream) {
  const std::lock_guard lock(machine_mutex());
  return stream == nullptr || device().streams.contains(stream);
}

void submit(cudaStream_t stream, std::function<void()> work) {
  const std::lock_guard lock(machine_mutex());
  queue_of(stream)->queue.push_back({++device().numbers, std::move(work)});
  if (!schedule().late_streams) run_until(queue_of(stream), device().numbers);
}

void finish(cudaStream_t stream) {
  submit(stream, [] {});  // so that what the stream waits for by rule runs too
  const std::lock_guard lock(machine_mutex());
  run_until(queue_of(stream), device().numbers);
}

void finish_device() {
  const std::lock_guard lock(machine_mutex());
  run_until(&device().null, device().numbers);
  for (const cudaStream_t stream : device().streams) run_until(stream, device().numbers);
}

int live_handles() {
  const std::lock_guard lock(machine_mutex());
  return static_cast<int>(device().streams.size() + device().events.size());
}

cudaError_t done(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

}  // namespace cuemu

using cuemu::device;
using cuemu::done;
using cuemu::machine_mutex;

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, 0);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(machine_mutex());
  *stream = new CUstream_st{(flags & cudaStreamNonBlocking) == 0, {}};
  device().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(machine_mutex());
  if (stream == nullptr || !cuemu::is_stream(stream)) return done(cudaErrorInvalidResourceHandle);
  cuemu::finish(stream);
  device().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!cuemu::is_stream(stream)) return done(cudaErrorInvalidResourceHandle);
  cuemu::finish(stream);
  return cudaSuccess;
}
// Polling makes progress: each call runs one piece of work.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_stream(stream)) return done(cudaErrorInvalidResourceHandle);
  CUstream_st* queue = cuemu::queue_of(stream);
  if (queue->queue.empty()) return cudaSuccess;
  cuemu::run_until(queue, queue->queue.front().number);
  return cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_stream(stream) || !cuemu::is_event(event)) {
    return done(cudaErrorInvalidResourceHandle);
  }
  if (!event->recorded) return cudaSuccess;
  cuemu::submit(stream, [other = event->stream, number = event->number] {
    cuemu::run_until_recorded(other, number);
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const std::lock_guard lock(machine_mutex());
  *event = new CUevent_st{.timing = (flags & cudaEventDisableTiming) == 0};
  device().events.insert(*event);
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_event(event)) return done(cudaErrorInvalidResourceHandle);
  device().events.erase(event);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_stream(stream) || !cuemu::is_event(event)) {
    return done(cudaErrorInvalidResourceHandle);
  }
  event->recorded = true;
  event->stream = stream;
  event->number = device().numbers + 1;
  cuemu::submit(stream, [event] {
    if (cuemu::is_event(event)) event->time = std::chrono::steady_clock::now();
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_event(event)) return done(cudaErrorInvalidResourceHandle);
  if (event->recorded) cuemu::run_until_recorded(event->stream, event->number);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(machine_mutex());
  if (!cuemu::is_event(event)) return done(cudaErrorInvalidResourceHandle);
  if (!event->recorded || !cuemu::is_stream(event->stream)) return cudaSuccess;
  CUstream_st* queue = cuemu::queue_of(event->stream);
  if (queue->queue.empty() || queue->queue.front().number > event->number) return cudaSuccess;
  cuemu::run_until(queue, queue->queue.front().number);
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(machine_mutex());
  for (const cudaEvent_t event : {start, end}) {
    if (!cuemu::is_event(event) || !event->timing || !event->recorded) {
      return done(cudaErrorInvalidResourceHandle);
    }
    cuemu::run_until_recorded(event->stream, event->number);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  cuemu::finish_device();
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  return std::exchange(cuemu::last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return cuemu::last_error;
}
