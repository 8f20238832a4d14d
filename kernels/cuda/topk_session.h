// Top-K over the same items again and again: the memory of a call is kept. A call with the
// arguments of the one before (the numbers behind the pointers may differ, which is how a server
// uses it) has its chain of launches recorded as one graph, which further such calls replay.
#pragma once

#include "kernels/cuda/topk.h"

#include <memory>

namespace hypertower::cuda {

class TopKSession {
 public:
  // For calls of up to `max_rows` rows and this k. `items` must outlive the session. REQUIRES: k >=
  // 1, max_rows >= 1; options.items and options.scratch_keys are not looked at.
  TopKSession(const DeviceItems& items, int64_t max_rows, int64_t k, void* stream,
              const TopKOptions& options = {});
  ~TopKSession();
  TopKSession(const TopKSession&) = delete;
  TopKSession& operator=(const TopKSession&) = delete;

  // As hypertower::topk. REQUIRES: in.items and in.k are those of the session, at most max_rows
  // rows. Calls with lists take the plain way, because their memory depends on the lists.
  void topk(const TopKInput& in, const TopKOutput& out);

  int64_t recordings() const;  // graphs recorded so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hypertower::cuda
