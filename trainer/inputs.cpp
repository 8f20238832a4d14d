#include "trainer/inputs.h"

#include <algorithm>

#include "kernels/dense.h"

namespace hypertower {
namespace {

bool is_id(const FittedFeature& f) {
  return f.feature.kind == FeatureKind::kCategory || f.feature.kind == FeatureKind::kCategories;
}

template <class T>
at::Tensor copy_to(std::span<const T> values, at::ScalarType type, at::Device device) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, at::dtype(type));
  std::copy(values.begin(), values.end(), out.data_ptr<T>());
  return out.to(device);
}

// [records, width] as the linear layers see it, the same encoding as in serving.
at::Tensor encode_dense(const FittedFeature& f, const FeatureColumn& column, int64_t rows) {
  at::Tensor out = at::empty({rows, f.width()}, at::kFloat);
  if (f.feature.kind == FeatureKind::kVector) {
    std::copy(column.dense.begin(), column.dense.end(), out.data_ptr<float>());
  } else if (rows > 0) {
    piecewise_linear(column.dense.data(), f.edges.data(), f.width() + 1,
                     {out.data_ptr<float>(), rows, f.width()}, Exec{});
  }
  return out;
}

}  // namespace

at::Tensor to_tensor(std::span<const int64_t> values, at::Device device) {
  return copy_to(values, at::kLong, device);
}
at::Tensor to_tensor(std::span<const float> values, at::Device device) {
  return copy_to(values, at::kFloat, device);
}

GroupStore::GroupStore(std::span<const FittedFeature> features, const Batch& batch,
                       at::Device device)
    : batch_(batch), device_(device) {
  for (size_t f = 0; f < features.size(); ++f) {
    is_id_.push_back(is_id(features[f]));
    is_dynamic_.push_back(features[f].feature.dynamic_rows > 0);
    widths_.push_back(features[f].width());
    dense_.push_back(is_id_[f]
                         ? at::Tensor()
                         : encode_dense(features[f], batch.columns[f], batch.rows).to(device));
  }
}

at::Device GroupStore::device_of_ids(size_t feature) const {
  return is_dynamic_[feature] ? at::Device(at::kCPU) : device_;
}

GroupInput GroupStore::gather(std::span<const int64_t> records) const {
  GroupInput out;
  out.rows = static_cast<int64_t>(records.size());
  const at::Tensor index = to_tensor(records, device_);
  for (size_t f = 0; f < is_id_.size(); ++f) {
    FieldInput field;
    if (is_id_[f]) {
      const FeatureColumn& column = batch_.columns[f];
      std::vector<int64_t> ids;
      std::vector<int64_t> offsets{0};
      offsets.reserve(records.size() + 1);
      for (const int64_t r : records) {
        const auto begin = column.values.begin() + column.offsets[static_cast<size_t>(r)];
        const auto end = column.values.begin() + column.offsets[static_cast<size_t>(r) + 1];
        ids.insert(ids.end(), begin, end);
        offsets.push_back(static_cast<int64_t>(ids.size()));
      }
      field.bags = make_bags(to_tensor(ids, device_of_ids(f)), to_tensor(offsets, device_));
    } else {
      field.dense = dense_[f].index_select(0, index);
    }
    out.fields.push_back(std::move(field));
  }
  return out;
}

GroupInput GroupStore::all() const {
  GroupInput out;
  out.rows = batch_.rows;
  for (size_t f = 0; f < is_id_.size(); ++f) {
    FieldInput field;
    if (is_id_[f]) {
      const FeatureColumn& column = batch_.columns[f];
      field.bags =
          make_bags(to_tensor(column.values, device_of_ids(f)), to_tensor(column.offsets, device_));
      if (!is_dynamic_[f]) field.bags.plan = make_plan(field.bags, widths_[f]);
    } else {
      field.dense = dense_[f];
    }
    out.fields.push_back(std::move(field));
  }
  return out;
}

TrainingInputs::TrainingInputs(const Dataset& dataset, const Histories& histories_of, at::Device on)
    : data(dataset),
      histories(histories_of),
      device(on),
      users(data.features.group(Group::kUser), data.user_features, on),
      items(data.features.group(Group::kItem), data.item_features, on),
      context(data.features.group(Group::kContext), data.events.context, on),
      all_items(items.all()) {
  const int64_t n = data.items.size();
  const auto longs = at::dtype(at::kLong).device(on);
  all_item_ids = make_bags(at::arange(n, longs), at::arange(n + 1, longs));
  all_item_ids.plan = make_plan(all_item_ids, n);
}

GroupInput TrainingInputs::users_of(std::span<const int64_t> events) const {
  std::vector<int64_t> rows;
  rows.reserve(events.size());
  for (const int64_t e : events) rows.push_back(data.events.user[static_cast<size_t>(e)]);
  return users.gather(rows);
}

HistoryInput to_input(const HistoryRows& rows, at::Device device) {
  return to_input(rows, rows.items, device);
}

HistoryInput to_input(const HistoryRows& rows, std::span<const int64_t> places, at::Device device) {
  HistoryInput out;
  std::vector<float> ages(rows.ages.begin(), rows.ages.end());
  std::vector<int64_t> row(rows.items.size());
  for (size_t r = 0; r + 1 < rows.offsets.size(); ++r) {
    std::fill(row.begin() + rows.offsets[r], row.begin() + rows.offsets[r + 1],
              static_cast<int64_t>(r));
  }
  out.bags = make_bags(to_tensor(places, device), to_tensor(rows.offsets, device));
  out.items = to_tensor(rows.items, device);
  out.weights = to_tensor(rows.weights, device);
  out.kinds = to_tensor(rows.kinds, device);
  out.offsets = rows.offsets;
  out.ages = to_tensor(ages, device);
  out.row = to_tensor(row, device);
  return out;
}

}  // namespace hypertower
