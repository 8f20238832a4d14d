#include "trainer/evaluate.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "trainer/catalogue_index.h"
#include "trainer/metrics.h"

namespace hypertower {
namespace {

constexpr int64_t kBlock = 512;

// Sum of 1 / log2(1 + rank), ties at their mean rank.
double rank_gain(const at::Tensor& queries, const at::Tensor& items, const SeenItems& seen,
                 const at::Tensor& target) {
  at::Tensor scores = at::matmul(queries, items.t());
  if (!seen.items.empty()) {
    std::vector<int64_t> row(seen.items.size());
    for (size_t r = 0; r + 1 < seen.offsets.size(); ++r) {
      std::fill(row.begin() + seen.offsets[r], row.begin() + seen.offsets[r + 1],
                static_cast<int64_t>(r));
    }
    const auto device = queries.device();
    scores.index_put_({to_tensor(row, device), to_tensor(seen.items, device)},
                      at::full({}, -std::numeric_limits<float>::infinity(), scores.options()));
  }
  const at::Tensor own = scores.gather(1, target.unsqueeze(1));
  const at::Tensor greater = (scores > own).sum(1);
  const at::Tensor equal = (scores == own).sum(1);
  const at::Tensor rank = 1 + greater + (equal - 1) / 2.0;
  return (at::isfinite(own.squeeze(1)) / at::log2(1 + rank)).sum().item<double>();
}

}  // namespace

at::Tensor encode_catalogue(TwoTower& towers, const TrainingInputs& inputs) {
  const at::NoGradGuard no_grad;
  towers.eval();
  return towers.items(inputs.all_item_ids, inputs.all_items).contiguous();
}

at::Tensor encode_queries(TwoTower& towers, const TrainingInputs& inputs,
                          const at::Tensor& item_vectors, std::span<const int64_t> events) {
  const at::NoGradGuard no_grad;
  towers.eval();
  const at::Tensor state = towers.state(
      inputs.users_of(events), to_input(inputs.histories.of(events), inputs.device), item_vectors);
  return towers.query(state, inputs.context_of(events)).contiguous();
}

Evaluation evaluate_towers(TwoTower& towers, const TrainingInputs& inputs,
                           std::span<const int64_t> events, std::span<const int64_t> lengths,
                           bool exclude_seen) {
  const at::NoGradGuard no_grad;
  const at::Tensor items = encode_catalogue(towers, inputs);
  const CatalogueIndex index(items);
  const int64_t k = std::min<int64_t>(lengths.back(), items.size(0));
  RankMetrics metrics({lengths.begin(), lengths.end()}, items.size(0));
  double gain = 0;
  std::vector<int64_t> targets;
  for (size_t begin = 0; begin < events.size(); begin += kBlock) {
    const auto block = events.subspan(begin, std::min<size_t>(kBlock, events.size() - begin));
    const at::Tensor queries = encode_queries(towers, inputs, items, block);
    SeenItems seen;
    if (exclude_seen) seen = seen_items(inputs.histories, block);
    targets.clear();
    for (const int64_t e : block) {
      targets.push_back(inputs.data.events.item[static_cast<size_t>(e)]);
    }
    gain += rank_gain(queries, items, seen, to_tensor(targets, inputs.device));
    const at::Tensor ids = index.best(queries, seen, k);
    for (size_t r = 0; r < block.size(); ++r) {
      const int64_t* first = ids.const_data_ptr<int64_t>() + static_cast<int64_t>(r) * k;
      const int64_t* end = std::find(first, first + k, -1);  // fewer items than k were allowed
      const int64_t* found = std::find(first, end, targets[r]);
      metrics.add(found == end ? 0 : static_cast<double>(found - first + 1), {first, end});
    }
  }
  return {metrics.to_json(), events.empty() ? 0.0 : gain / static_cast<double>(events.size())};
}

}  // namespace hypertower
