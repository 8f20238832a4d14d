// See launch_graph.h. Compiled only for the emulator.
#include "kernels/cuda/launch_graph.h"

#include <utility>

namespace hypertower::cuda {

struct LaunchGraph::Recording {
  std::function<void(void*)> enqueue;
};

LaunchGraph::LaunchGraph(std::function<void(void*)> enqueue)
    : recording_(std::make_unique<Recording>(Recording{std::move(enqueue)})) {}
LaunchGraph::~LaunchGraph() = default;

void LaunchGraph::replay(void* stream) const {
  recording_->enqueue(stream);
}

}  // namespace hypertower::cuda
