// A top-K problem of tests/kernels/topk_reference.h in device memory.
#pragma once

#include <vector>

#include "kernels/cuda/topk.h"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower::testing {

// A case in device memory, and its result.
class DeviceCase {
 public:
  explicit DeviceCase(const TopKCase& c)
      : packed_(c),
        queries_(c.query_data),
        items_(c.item_data),
        masks_(packed_.masks),
        mask_of_row_(c.mask_of_row.value_or(std::vector<int32_t>{})),
        exclude_ids_(packed_.exclude_ids),
        exclude_offsets_(packed_.exclude_offsets),
        adjust_ids_(packed_.adjust_ids),
        adjust_offsets_(packed_.adjust_offsets),
        deltas_(packed_.deltas),
        ids_(c.batch * c.k),
        scores_(c.batch * c.k),
        count_(c.batch),
        status_(c.batch) {
    in = packed_.in;
    in.queries.data = queries_.data();
    in.items.data = items_.data();
    in.masks = masks_.data();
    in.mask_of_row = mask_of_row_.data();
    in.exclude.values = exclude_ids_.data();
    in.exclude.offsets = exclude_offsets_.data();
    in.adjust.values = adjust_ids_.data();
    in.adjust.offsets = adjust_offsets_.data();
    in.adjust_delta = deltas_.data();
    out = {
        {ids_.data(), c.batch, c.k}, {scores_.data(), c.batch, c.k}, count_.data(), status_.data()};
  }

  TopKResult result() const {
    return {ids_.to_host(), scores_.to_host(), count_.to_host(), status_.to_host()};
  }

  // Other numbers in the same memory.
  void set_queries(const std::vector<float>& values) {
    ASSERT_EQ(cudaMemcpy(queries_.data(), values.data(), values.size() * sizeof(float),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  void set_masks(const TopKCase& c) {
    const PackedCase other(c);
    ASSERT_EQ(cudaMemcpy(masks_.data(), other.masks.data(), other.masks.size() * sizeof(uint64_t),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
  }

  TopKInput in;
  TopKOutput out;

 private:
  PackedCase packed_;
  DeviceArray<float> queries_, items_;
  DeviceArray<uint64_t> masks_;
  DeviceArray<int32_t> mask_of_row_;
  DeviceArray<int64_t> exclude_ids_, exclude_offsets_, adjust_ids_, adjust_offsets_;
  DeviceArray<float> deltas_;
  DeviceArray<int64_t> ids_;
  DeviceArray<float> scores_;
  DeviceArray<int32_t> count_;
  DeviceArray<RowStatus> status_;
};

inline TopKResult run_cuda(const TopKCase& c, const cuda::TopKOptions& options = {}) {
  DeviceCase device(c);
  cuda::topk(device.in, device.out, nullptr, options);
  return device.result();
}

}  // namespace hypertower::testing
