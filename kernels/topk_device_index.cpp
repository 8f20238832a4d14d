#include "kernels/topk_device_index.h"

#include <string>
#include <utility>

#include "kernels/cuda/finite_rows.h"
#include "kernels/cuda/topk_sessions.h"
#include "kernels/dispatch.h"
#include "kernels/error.h"
#include "kernels/topk_check.h"

namespace hypertower {

TopKDeviceIndex TopKDeviceIndex::build(MatrixView<const float> items,
                                       std::shared_ptr<const void> owner, const Exec& exec) {
  if (exec.device != DeviceType::kCuda) {
    throw Error(ErrorKind::kArgument,
                "index: expected items in the memory of a GPU, got host memory; use TopKIndex.",
                "items");
  }
  topk_check::num_items(items.rows);
  TopKDeviceIndex index;
  index.items_ = items;
  index.owner_ = std::move(owner);
  if constexpr (kWithCuda) {
    topk_check::finite_items(cuda::first_non_finite_row(items, exec.stream));
    index.sessions_ = std::make_shared<cuda::TopKSessions>(items, exec.stream);
    return index;
  }
  throw_no_cuda("topk index");
}

int64_t TopKDeviceIndex::bytes() const {
  if constexpr (kWithCuda) return sessions_ == nullptr ? 0 : sessions_->item_bytes();
  return 0;
}

void TopKDeviceIndex::search(const TopKInput& in, const TopKOutput& out, const Exec& exec) const {
  if (exec.device != DeviceType::kCuda) {
    throw Error(ErrorKind::kArgument,
                "index: expected queries in the memory of the GPU that has the items, got host "
                "memory; move them there.",
                "queries");
  }
  TopKInput whole = in;
  whole.items = items_;
  topk_check::shapes(whole, out);
  if constexpr (kWithCuda) {
    if (sessions_ != nullptr) return sessions_->topk(whole, out, exec.stream);
  }
  throw_no_cuda("topk index");
}

}  // namespace hypertower
