#include "trainer/hard_negatives.h"

#include <algorithm>

#include "trainer/evaluate.h"

namespace hypertower {

HardNegatives::HardNegatives(TwoTower& towers, const TrainingInputs& inputs, int64_t per_row,
                             bool exclude_seen)
    : towers_(towers),
      inputs_(inputs),
      per_row_(std::min(per_row, inputs.data.items.size())),
      exclude_seen_(exclude_seen) {}

std::vector<int64_t> HardNegatives::mine(std::span<const int64_t> events) {
  const at::NoGradGuard no_grad;
  if (batches_++ % kRefresh == 0) index_.emplace(encode_catalogue(towers_, inputs_));
  const at::Tensor queries = encode_queries(towers_, inputs_, index_->items(), events);
  towers_.train();
  SeenItems seen;
  if (exclude_seen_) seen = seen_items(inputs_.histories, events);
  const at::Tensor ids = index_->best(queries, seen, {}, per_row_);
  const auto* first = ids.const_data_ptr<int64_t>();
  std::vector<int64_t> items(first, first + ids.numel());
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  if (!items.empty() && items.front() < 0) items.erase(items.begin());
  return items;
}

}  // namespace hypertower
