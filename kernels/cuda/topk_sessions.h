// Items on a GPU for callers with any k and any number of rows: the session that fits the last call
// is kept, what no session takes goes to cuda::topk. Thread-safe: calls wait for one another.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "kernels/cuda/topk_items.h"
#include "kernels/cuda/topk_session.h"
#include "kernels/topk.h"

namespace hypertower::cuda {

class TopKSessions {
 public:
  // As DeviceItems; waits until they are made, so that any stream may use them. A session takes up
  // to `most_rows`; its memory is about 70 KiB a row at k = 100, and from the first mask that all
  // rows share a quarter of item_bytes() more.
  TopKSessions(MatrixView<const float> items, void* stream, int64_t most_rows = 1024);

  int64_t item_bytes() const { return codes_.has_value() ? codes_->bytes() : 0; }

  // As cuda::topk; in.items are those of the constructor.
  void topk(const TopKInput& in, const TopKOutput& out, void* stream);

 private:
  const int64_t most_rows_;
  std::mutex mutex_;
  std::optional<DeviceItems> codes_;  // none: more columns than they are made for
  std::optional<TopKSession> session_;
  int64_t max_rows_ = 0, k_ = 0;
  void* stream_ = nullptr;
};

}  // namespace hypertower::cuda
