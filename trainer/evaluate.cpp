#include "trainer/evaluate.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/topk.h"
#include "kernels/topk_device_index.h"
#include "kernels/topk_index.h"
#include "trainer/metrics.h"

namespace hypertower {
namespace {

constexpr int64_t kBlock = 512;

MatrixView<const float> view(const at::Tensor& t) {
  return {t.const_data_ptr<float>(), t.size(0), t.size(1)};
}

// The items of a catalogue, to be searched where they are.
class CatalogueIndex {
 public:
  explicit CatalogueIndex(const at::Tensor& items) {
    if (items.is_cpu()) {
      on_cpu_ = TopKIndex::build(view(items), nullptr, exec_for(items).threads);
    } else {
      on_gpu_ = TopKDeviceIndex::build(view(items), nullptr, exec_for(items));
    }
  }
  void search(const TopKInput& in, const TopKOutput& out, const Exec& exec) const {
    return exec.device == DeviceType::kCpu ? on_cpu_.search(in, out, exec)
                                           : on_gpu_.search(in, out, exec);
  }

 private:
  TopKIndex on_cpu_;
  TopKDeviceIndex on_gpu_;
};

// The best `k` items per query, exact, on the queries' device; ids come back to the CPU.
at::Tensor best_items(const at::Tensor& queries, const CatalogueIndex& index, const SeenItems& seen,
                      int64_t k) {
  const int64_t rows = queries.size(0);
  const auto device = queries.device();
  at::Tensor ids = at::empty({rows, k}, at::dtype(at::kLong).device(device));
  at::Tensor scores = at::empty({rows, k}, queries.options());
  at::Tensor count = at::empty({rows}, at::dtype(at::kInt).device(device));
  at::Tensor status = at::empty({rows}, at::dtype(at::kInt).device(device));
  const at::Tensor exclude = to_tensor(seen.items, device);
  const at::Tensor offsets = to_tensor(seen.offsets, device);
  TopKInput in;
  in.queries = view(queries);
  in.k = k;
  if (!seen.items.empty()) {
    in.exclude = {exclude.const_data_ptr<int64_t>(), offsets.const_data_ptr<int64_t>(), rows};
  }
  TopKOutput out;
  out.ids = {ids.data_ptr<int64_t>(), rows, k};
  out.scores = {scores.data_ptr<float>(), rows, k};
  out.count = count.data_ptr<int32_t>();
  out.status = reinterpret_cast<RowStatus*>(status.data_ptr<int32_t>());
  index.search(in, out, exec_for(queries));
  return ids.cpu();
}

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

SeenItems seen_items(const Histories& histories, std::span<const int64_t> events) {
  SeenItems out;
  std::vector<int64_t> seen;
  for (const int64_t e : events) {
    histories.seen(e, seen);
    out.items.insert(out.items.end(), seen.begin(), seen.end());
    out.offsets.push_back(static_cast<int64_t>(out.items.size()));
  }
  return out;
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
    const at::Tensor ids = best_items(queries, index, seen, k);
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
