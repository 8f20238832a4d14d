// A chain of launches recorded once and enqueued again as a whole, which costs the host one call
// and the device no gaps. launch_graph_cuda.cpp records a CUDA graph; launch_graph_host.cpp is the
// twin for the emulator (tests/cuemu), which has no graphs and repeats the launches. Exactly one of
// the two is linked.
//
// Owns what it recorded, not the memory that the launches use: that must stay where it is.
// Not thread-safe. Errors: those of the CUDA calls.
#pragma once

#include <functional>
#include <memory>

namespace hypertower::cuda {

class LaunchGraph {
 public:
  // Records what `enqueue` puts on the stream (a cudaStream_t) that it is given; nothing runs yet.
  // It must neither allocate nor synchronise. It is kept, and what it refers to must outlive this.
  explicit LaunchGraph(std::function<void(void*)> enqueue);
  ~LaunchGraph();
  LaunchGraph(const LaunchGraph&) = delete;
  LaunchGraph& operator=(const LaunchGraph&) = delete;

  void replay(void* stream) const;

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace hypertower::cuda
