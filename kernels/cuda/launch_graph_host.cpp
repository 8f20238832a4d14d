// See launch_graph.h. Compiled only for the emulator.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_graph.h"

#include <utility>

namespace hypertower::cuda {

struct LaunchGraph::Recording {
  std::function<void(void*)> enqueue;
};

LaunchGraph::LaunchGraph(std::function<void(void*)> enqueue)
    : recording_(std::make_unique<Recording>(Recording{std::move(enqueue)})) {}
LaunchGraph::~LaunchGraph() = default;

// On a stream of its own that is gone afterwards, as the one of a recording is: who keeps it,
// fails.
void LaunchGraph::replay(void* stream) const {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "launch graph");
  cudaStream_t own = nullptr;
  check(cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking), "launch graph");
  recording_->enqueue(own);
  check(cudaStreamDestroy(own), "launch graph");
}

}  // namespace hypertower::cuda
