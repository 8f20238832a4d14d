// See launch_graph.h.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/launch_graph.h"

namespace hypertower::cuda {

struct LaunchGraph::Recording {
  ~Recording() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }
  cudaGraphExec_t executable = nullptr;
};

LaunchGraph::LaunchGraph(std::function<void(void*)> enqueue)
    : recording_(std::make_unique<Recording>()) {
  // On a stream of its own: the caller's may be the default stream, which records nothing.
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "launch graph");
  cudaGraph_t graph = nullptr;
  try {
    // Relaxed: the first launch of a kernel may load its code, which the other modes can refuse.
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "launch graph");
    enqueue(stream);
    check(cudaStreamEndCapture(stream, &graph), "launch graph");
    check(cudaGraphInstantiate(&recording_->executable, graph, 0), "launch graph");
  } catch (...) {
    if (graph == nullptr) cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
    cudaGetLastError();  // of the capture that was given up
    throw;
  }
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

LaunchGraph::~LaunchGraph() = default;

void LaunchGraph::replay(void* stream) const {
  check(cudaGraphLaunch(recording_->executable, static_cast<cudaStream_t>(stream)), "launch graph");
}

}  // namespace hypertower::cuda
