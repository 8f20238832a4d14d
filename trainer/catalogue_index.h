// Exact top-K over the item vectors at hand, with the kernel that serves. Immutable, thread-safe.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/topk_device_index.h"
#include "kernels/topk_index.h"
#include "trainer/adjustments.h"
#include "trainer/histories.h"

namespace hypertower {

// Distinct items of each event's history, ascending: jagged values and offsets on the CPU.
struct SeenItems {
  std::vector<int64_t> items;
  std::vector<int64_t> offsets{0};
};
SeenItems seen_items(const Histories& histories, std::span<const int64_t> events);

class CatalogueIndex {
 public:
  // Of item vectors [N, d], which it keeps, on their device.
  explicit CatalogueIndex(const at::Tensor& items);

  const at::Tensor& items() const { return items_; }
  // Ids [rows, k] of the best items per query [rows, d], without those seen, on the CPU; -1 behind
  // the last where fewer are allowed.
  at::Tensor best(const at::Tensor& queries, const SeenItems& seen, const Adjustments& adjust,
                  int64_t k) const;

 private:
  at::Tensor items_;
  TopKIndex on_cpu_;
  TopKDeviceIndex on_gpu_;
};

}  // namespace hypertower
