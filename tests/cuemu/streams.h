// Streams and events: when the work of host calls runs. Private to the runtime.
//
// CUEMU_STREAMS=now runs work as it is enqueued. `late` runs it only when something waits for it,
// and then only what that wait orders, so that host code which reads a result too early, or frees
// memory too early, finds out. Copies from pageable memory take their bytes at once and copies to
// it wait, as the runtime's do. The null stream and blocking streams wait for each other.
#pragma once

#include "tests/cuemu/runtime.h"

#include <functional>

namespace cuemu {

bool is_stream(cudaStream_t stream);  // null counts
void submit(cudaStream_t stream, std::function<void()> work);
void finish(cudaStream_t stream);
void finish_device();
int live_handles();  // streams and events

// Remembers a failed call for cudaGetLastError.
cudaError_t done(cudaError_t status);

}  // namespace cuemu
