// Items in the memory of a GPU, prepared once for exact top-K (kernels/topk.h);
// kernels/topk_index.h is the same for the CPU. Answers are those of `topk` over the same items, to
// the bit.
//
// A search whose arguments are those of the one before, with other numbers behind the pointers, is
// recorded as one CUDA graph and replayed from then on: keep queries and answers in the same memory
// to have the latency of that.
//
// Memory: about D + 20 bytes per item, and the scratch memory of the largest search so far; the
// float vectors stay where the caller has them. Thread-safe: searches wait for one another.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/tensor.h"
#include "kernels/topk.h"

namespace hypertower {

namespace cuda {
class TopKSessions;
}

class TopKDeviceIndex {
 public:
  TopKDeviceIndex() = default;

  // Of items [N, D] in device memory, on exec.stream; synchronises. `owner` keeps them alive and
  // unchanged as long as the index lives; null: the caller does. Errors (kArgument): a device that
  // is not CUDA, a build without CUDA, non-finite rows (names the first), more than 2^32 items.
  static TopKDeviceIndex build(MatrixView<const float> items, std::shared_ptr<const void> owner,
                               const Exec& exec);

  int64_t size() const { return items_.rows; }
  int64_t num_live() const { return size(); }
  int64_t dim() const { return items_.cols; }
  int64_t bytes() const;  // of the prepared form

  // `in.items` is left empty: the index has them. Errors and synchronisation as `topk`.
  void search(const TopKInput& in, const TopKOutput& out, const Exec& exec) const;

 private:
  MatrixView<const float> items_;
  std::shared_ptr<const void> owner_;
  std::shared_ptr<cuda::TopKSessions> sessions_;
};

}  // namespace hypertower
