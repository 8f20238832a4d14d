#include "kernels/cuda/topk_sessions.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk.h"

namespace hypertower::cuda {

TopKSessions::TopKSessions(MatrixView<const float> items, void* stream, int64_t most_rows)
    : most_rows_(most_rows) {
  if (!DeviceItems::supports(items.rows, items.cols)) return;
  codes_.emplace(items, stream);
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "topk index");
}

void TopKSessions::topk(const TopKInput& in, const TopKOutput& out, void* stream) {
  const std::lock_guard lock(mutex_);
  const int64_t rows = in.queries.rows;
  if (rows == 0) return;
  if (!codes_.has_value() || rows > most_rows_ || 4 * in.k > in.items.rows) {
    return cuda::topk(in, out, stream, {.items = codes_.has_value() ? &*codes_ : nullptr});
  }
  if (!session_.has_value() || k_ != in.k || stream_ != stream || rows > max_rows_) {
    session_.reset();
    const int64_t wanted = k_ == in.k ? std::max(rows, max_rows_) : rows;
    max_rows_ = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(wanted)));
    k_ = in.k;
    stream_ = stream;
    session_.emplace(*codes_, max_rows_, k_, stream);
  }
  session_->topk(in, out);
}

}  // namespace hypertower::cuda
