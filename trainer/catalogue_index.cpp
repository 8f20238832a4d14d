#include "trainer/catalogue_index.h"

#include "kernels/topk.h"
#include "trainer/autograd_ops.h"
#include "trainer/inputs.h"

namespace hypertower {
namespace {

MatrixView<const float> view(const at::Tensor& t) {
  return {t.const_data_ptr<float>(), t.size(0), t.size(1)};
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

CatalogueIndex::CatalogueIndex(const at::Tensor& items) : items_(items.contiguous()) {
  if (items_.is_cpu()) {
    on_cpu_ = TopKIndex::build(view(items_), nullptr, exec_for(items_).threads);
  } else {
    on_gpu_ = TopKDeviceIndex::build(view(items_), nullptr, exec_for(items_));
  }
}

at::Tensor CatalogueIndex::best(const at::Tensor& queries, const SeenItems& seen,
                                const Adjustments& adjust, int64_t k) const {
  const int64_t rows = queries.size(0);
  const auto device = queries.device();
  at::Tensor ids = at::empty({rows, k}, at::dtype(at::kLong).device(device));
  at::Tensor scores = at::empty({rows, k}, queries.options());
  at::Tensor count = at::empty({rows}, at::dtype(at::kInt).device(device));
  at::Tensor status = at::empty({rows}, at::dtype(at::kInt).device(device));
  const at::Tensor exclude = to_tensor(seen.items, device);
  const at::Tensor offsets = to_tensor(seen.offsets, device);
  const at::Tensor adjusted = to_tensor(adjust.items, device);
  const at::Tensor deltas = to_tensor(adjust.deltas, device);
  const at::Tensor adjust_offsets = to_tensor(adjust.offsets, device);
  TopKInput in;
  in.queries = view(queries);
  in.k = k;
  if (!seen.items.empty()) {
    in.exclude = {exclude.const_data_ptr<int64_t>(), offsets.const_data_ptr<int64_t>(), rows};
  }
  if (!adjust.items.empty()) {
    in.adjust = {adjusted.const_data_ptr<int64_t>(), adjust_offsets.const_data_ptr<int64_t>(),
                 rows};
    in.adjust_delta = deltas.const_data_ptr<float>();
  }
  TopKOutput out;
  out.ids = {ids.data_ptr<int64_t>(), rows, k};
  out.scores = {scores.data_ptr<float>(), rows, k};
  out.count = count.data_ptr<int32_t>();
  out.status = reinterpret_cast<RowStatus*>(status.data_ptr<int32_t>());
  const Exec exec = exec_for(queries);
  if (exec.device == DeviceType::kCpu) {
    on_cpu_.search(in, out, exec);
  } else {
    on_gpu_.search(in, out, exec);
  }
  return ids.cpu();
}

}  // namespace hypertower
