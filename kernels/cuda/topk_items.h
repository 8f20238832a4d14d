// The items of a top-K, quantised on the device: int8 codes with a scale per item and what bounds
// their error (topk_bound.cuh). A caller that asks the same items again and again keeps one of
// these and hands it to cuda::topk (TopKOptions::items); without it every call quantises anew.
//
// Memory: about dim + 20 bytes per item, on the device. The float matrix must stay alive and
// unchanged, because results are scored from it. Thread-safe once built; use it on the stream it
// was built on, or after that stream was waited for.
#pragma once

#include "kernels/tensor.h"

#include <memory>

namespace hypertower::cuda {

struct ItemCodes;

class DeviceItems {
 public:
  // Enqueues the work on `stream` (a cudaStream_t). Items must be finite. REQUIRES:
  // supports(items.rows, items.cols).
  DeviceItems(MatrixView<const float> items, void* stream);
  ~DeviceItems();
  DeviceItems(const DeviceItems&) = delete;
  DeviceItems& operator=(const DeviceItems&) = delete;

  MatrixView<const float> items() const { return items_; }
  ItemCodes codes() const;
  int64_t bytes() const;  // of the codes and what belongs to them

  // At most 4096 columns, at least one item.
  static bool supports(int64_t rows, int64_t cols);

 private:
  struct Memory;
  MatrixView<const float> items_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace hypertower::cuda
