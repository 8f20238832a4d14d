#include "trainer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/parallel.h"
#include "trainer/metrics.h"

namespace hypertower {
namespace {

constexpr int64_t kBlock = 512;

// The row of each value of a jagged array.
at::Tensor rows_of(const std::vector<int64_t>& offsets, at::Device device) {
  std::vector<int64_t> row(static_cast<size_t>(offsets.back()));
  for (size_t r = 0; r + 1 < offsets.size(); ++r) {
    std::fill(row.begin() + offsets[r], row.begin() + offsets[r + 1], static_cast<int64_t>(r));
  }
  return to_tensor(row, device);
}

// 1 / log2(1 + rank) of one row.
double row_gain(std::span<const float> scores, int64_t target, std::span<const int64_t> adjusted,
                std::span<const float> deltas) {
  float own = scores[static_cast<size_t>(target)];
  for (size_t a = 0; a < adjusted.size(); ++a) {
    if (adjusted[a] == target) own += deltas[a];
  }
  if (!std::isfinite(own)) return 0.0;
  int32_t greater = 0, equal = 0;
  for (const float score : scores) {
    greater += score > own ? 1 : 0;
    equal += score == own ? 1 : 0;
  }
  // The few that are adjusted are compared once more; the target is equal to itself.
  for (size_t a = 0; a < adjusted.size(); ++a) {
    const float before = scores[static_cast<size_t>(adjusted[a])];
    const float after = adjusted[a] == target ? own : before + deltas[a];
    greater += (after > own ? 1 : 0) - (before > own ? 1 : 0);
    equal += (after == own ? 1 : 0) - (before == own ? 1 : 0);
  }
  return 1 / std::log2(2 + greater + (equal - 1) / 2.0);
}

}  // namespace

at::Tensor all_scores(const at::Tensor& queries, const at::Tensor& items, const SeenItems& seen) {
  at::Tensor scores = at::matmul(queries, items.t());
  if (seen.items.empty()) return scores;
  const auto device = queries.device();
  return scores.index_put_({rows_of(seen.offsets, device), to_tensor(seen.items, device)},
                           at::full({}, -std::numeric_limits<float>::infinity(), scores.options()));
}

at::Tensor adjusted_scores(const at::Tensor& scores, const Adjustments& adjust) {
  if (adjust.items.empty()) return scores;
  const auto device = scores.device();
  return scores.index_put({rows_of(adjust.offsets, device), to_tensor(adjust.items, device)},
                          to_tensor(adjust.deltas, device), /*accumulate=*/true);
}

double rank_gain(const at::Tensor& scores, const Adjustments& adjust,
                 std::span<const int64_t> targets) {
  const at::Tensor all = scores.cpu().contiguous();
  const int64_t n = all.size(1);
  std::vector<double> gains(targets.size());
  parallel_for(at::get_num_threads(), all.size(0), 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto i = static_cast<size_t>(r);
      const int64_t first = adjust.offsets[i], last = adjust.offsets[i + 1];
      gains[i] =
          row_gain({all.const_data_ptr<float>() + r * n, static_cast<size_t>(n)}, targets[i],
                   std::span(adjust.items)
                       .subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)),
                   std::span(adjust.deltas)
                       .subspan(static_cast<size_t>(first), static_cast<size_t>(last - first)));
    }
  });
  return std::accumulate(gains.begin(), gains.end(), 0.0);
}

std::vector<int64_t> targets_of(const TrainingInputs& inputs, std::span<const int64_t> events) {
  std::vector<int64_t> targets;
  for (const int64_t e : events) {
    targets.push_back(inputs.data.events.item[static_cast<size_t>(e)]);
  }
  return targets;
}

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
                           bool exclude_seen, const Memory& memory) {
  const at::NoGradGuard no_grad;
  const at::Tensor items = encode_catalogue(towers, inputs);
  const CatalogueIndex index(items);
  const int64_t k = std::min<int64_t>(lengths.back(), items.size(0));
  RankMetrics metrics({lengths.begin(), lengths.end()}, items.size(0));
  double gain = 0;
  for (size_t begin = 0; begin < events.size(); begin += kBlock) {
    const auto block = events.subspan(begin, std::min<size_t>(kBlock, events.size() - begin));
    const at::Tensor queries = encode_queries(towers, inputs, items, block);
    SeenItems seen;
    if (exclude_seen) seen = seen_items(inputs.histories, block);
    const Adjustments adjust = adjustments(memory, inputs, block);
    const std::vector<int64_t> targets = targets_of(inputs, block);
    gain += rank_gain(all_scores(queries, items, seen), adjust, targets);
    const at::Tensor ids = index.best(queries, seen, adjust, k);
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
