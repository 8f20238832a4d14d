// Rows of the dataset as tensors on the training device: what one forward pass reads.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <vector>

#include "trainer/autograd_ops.h"
#include "trainer/dataset.h"
#include "trainer/histories.h"

namespace hypertower {

// One feature of R records: `bags` for id features, else `dense` [R, width] (numbers are already
// piecewise-linear). A missing value is an empty bag or a zero row. Of a feature with a dynamic
// vocabulary, whose rows the towers know, bags.ids are numbers of values, in host memory.
struct FieldInput {
  IdBags bags;
  at::Tensor dense;
};

struct GroupInput {
  int64_t rows = 0;
  std::vector<FieldInput> fields;  // schema order
};

// Histories as rows of the item vectors at hand.
struct HistoryInput {
  IdBags bags;                   // ids: rows of item vectors
  at::Tensor items;              // [n] int64: their numbers in the catalogue
  at::Tensor weights;            // [n] kind weights
  at::Tensor kinds;              // [n] int64: rows of the table of kinds
  at::Tensor ages;               // [n] float, 0 = latest
  at::Tensor row;                // [n] int64: the history each event is in
  std::vector<int64_t> offsets;  // those of the bags, in host memory
};

// The features of one group for all its records, ready to be gathered. Immutable, thread-safe.
class GroupStore {
 public:
  // Keeps a reference to `batch`, which must outlive it.
  GroupStore(std::span<const FittedFeature> features, const Batch& batch, at::Device device);

  GroupInput gather(std::span<const int64_t> records) const;
  // All records, with the plans of the backward pass made once.
  GroupInput all() const;

 private:
  at::Device device_of_ids(size_t feature) const;

  const Batch& batch_;
  at::Device device_;
  std::vector<bool> is_id_, is_dynamic_;
  std::vector<int64_t> widths_;
  std::vector<at::Tensor> dense_;  // [records, width] on the device, undefined for id features
};

// `places`: where the items of `rows` are among the item vectors at hand, [n].
HistoryInput to_input(const HistoryRows& rows, std::span<const int64_t> places, at::Device device);
// Where all of the catalogue is at hand.
HistoryInput to_input(const HistoryRows& rows, at::Device device);

// Everything a training or an evaluation gathers from. Immutable, thread-safe.
struct TrainingInputs {
  // Keeps references to both, which must outlive it.
  TrainingInputs(const Dataset& dataset, const Histories& histories_of, at::Device on);

  GroupInput users_of(std::span<const int64_t> events) const;
  GroupInput context_of(std::span<const int64_t> events) const { return context.gather(events); }

  const Dataset& data;
  const Histories& histories;
  at::Device device;
  GroupStore users, items, context;
  GroupInput all_items;  // features of the whole catalogue ...
  IdBags all_item_ids;   // ... and its ids, with plans
};

// A copy on `device`.
at::Tensor to_tensor(std::span<const int64_t> values, at::Device device);
at::Tensor to_tensor(std::span<const float> values, at::Device device);

}  // namespace hypertower
