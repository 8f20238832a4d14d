#include "model/encoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/dense.h"
#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/finite_rows.h"
#include "kernels/parallel.h"
#include "kernels/topk.h"
#include "model/history_transformer.h"

namespace hypertower {
namespace {

constexpr float kNormEps = 1e-12F;  // as torch.nn.functional.normalize

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + (shape[i] < 0 ? "any" : std::to_string(shape[i]));
  }
  return text + "]";
}

bool is_id(const FittedFeature& f) {
  return f.feature.kind == FeatureKind::kCategory || f.feature.kind == FeatureKind::kCategories;
}

std::string tensor_name(const Feature& f) {
  return std::string(group_word(f.group)) + "." + f.name + ".weight";
}

// A whole tensor as a matrix: [rows, rest].
MatrixView<const float> matrix(const Tensor& t) {
  return {t.data.data(), t.shape[0], t.shape[1]};
}

void add_to(MatrixView<const float> term, MatrixView<float> out) {
  for (int64_t r = 0; r < out.rows; ++r) {
    const float* from = term.row(r);
    float* to = out.row(r);
    for (int64_t c = 0; c < out.cols; ++c) to[c] += from[c];
  }
}

[[noreturn]] void broken(const std::string& what) {
  throw Error(ErrorKind::kModel, what);
}

void require_cpu(const Exec& exec) {
  if (exec.device != DeviceType::kCpu) {
    throw Error(ErrorKind::kArgument, "the encoder runs on the CPU; give an Exec of the CPU");
  }
}

void require_shape(const char* what, MatrixView<const float> m, int64_t rows, int64_t cols) {
  if (m.rows == rows && m.cols == cols) return;
  throw Error(ErrorKind::kArgument, std::string(what) + ": expected the shape " +
                                        shape_text({rows, cols}) + ", got " +
                                        shape_text({m.rows, m.cols}));
}

// Expected shape by name; -1 = any.
std::map<std::string, std::vector<int64_t>> expected_shapes(const Architecture& a,
                                                            const FeatureSpace& features) {
  const int64_t t = a.width();
  std::map<std::string, std::vector<int64_t>> shapes = {
      {"item.id.weight", {-1, t}},
      {"item.bias.weight", {-1, 1}},
      {"query.bias", {t}},
  };
  if (a.history == HistoryEncoder::kTransformer) {
    shapes.merge(transformer_shapes(a, features.schema()));
  } else if (a.history == HistoryEncoder::kSet) {
    shapes["history.log_weight.weight"] = {-1, 1};
  } else {
    shapes["history.log_decay"] = {a.history_pools};
    shapes["history.mix"] = {a.history_pools, t, t};
  }
  const auto add_group = [&](Group g, int64_t width) {
    for (const FittedFeature& f : features.group(g)) {
      shapes[tensor_name(f.feature)] =
          is_id(f) ? std::vector{f.width(), width} : std::vector{width, f.width()};
    }
  };
  add_group(Group::kUser, t);
  add_group(Group::kItem, t);
  if (a.head == Head::kNone) return shapes;
  add_group(Group::kContext, a.context_dim);
  const auto fields = static_cast<int64_t>(features.group(Group::kContext).size());
  shapes["head.hidden.weight"] = {a.head_hidden, a.context_dim * fields};
  shapes["head.hidden.bias"] = {a.head_hidden};
  shapes["head.out.weight"] = {t + a.head_rank, a.head_hidden};
  shapes["head.out.bias"] = {t + a.head_rank};
  shapes["head.w_in"] = {a.head_rank, t};
  shapes["head.w_out"] = {t, a.head_rank};
  return shapes;
}

}  // namespace

void check_weights(const Architecture& architecture, const FeatureSpace& features,
                   const Weights& weights) {
  const auto finite = [](float x) { return std::isfinite(x); };
  if (architecture.history == HistoryEncoder::kAuto) {
    broken("the architecture does not say how histories are read (pools, set or transformer)");
  }
  if (architecture.head == Head::kBilinear && features.group(Group::kContext).empty()) {
    broken("the architecture has a bilinear head, but the schema has no context features");
  }
  const auto expected = expected_shapes(architecture, features);
  for (const auto& [name, shape] : expected) {
    const auto found = weights.find(name);
    if (found == weights.end()) broken("tensor '" + name + "' is missing");
    const Tensor& t = found->second;
    const bool fits = std::equal(t.shape.begin(), t.shape.end(), shape.begin(), shape.end(),
                                 [](int64_t a, int64_t b) { return a == b || b < 0; });
    int64_t size = 1;
    for (const int64_t s : t.shape) size *= s;
    if (!fits) {
      broken("tensor '" + name + "': schema and architecture ask for the shape " +
             shape_text(shape) + ", found " + shape_text(t.shape));
    }
    if (size != static_cast<int64_t>(t.data.size())) {
      broken("tensor '" + name + "' of shape " + shape_text(t.shape) + " holds " +
             std::to_string(t.data.size()) + " numbers");
    }
    const int64_t rows = std::max<int64_t>(1, t.shape.empty() ? 1 : t.shape[0]);
    if (first_non_finite_row({t.data.data(), rows, size / rows}, hardware_threads()) >= 0) {
      const auto bad = std::find_if_not(t.data.begin(), t.data.end(), finite);
      broken("tensor '" + name + "' holds " + (std::isnan(*bad) ? "NaN" : "infinity") +
             " at element " + std::to_string(bad - t.data.begin()));
    }
  }
  for (const auto& [name, t] : weights) {
    if (!expected.contains(name)) {
      broken("tensor '" + name + "' is left over: neither schema nor architecture has it");
    }
  }
  const int64_t ids = weights.at("item.id.weight").shape[0];
  for (const char* name : {"item.bias.weight", "history.log_weight.weight"}) {
    const auto found = weights.find(name);
    if (found == weights.end() || found->second.shape[0] == ids) continue;
    broken("tensor '" + std::string(name) + "' has " + std::to_string(found->second.shape[0]) +
           " rows, item.id.weight has " + std::to_string(ids));
  }
}

Encoder::Encoder(Architecture architecture, FeatureSpace features, Weights weights)
    : architecture_(architecture), features_(std::move(features)), weights_(std::move(weights)) {
  check_weights(architecture_, features_, weights_);
  const SharedArray<float>& bias = tensor("item.bias.weight").data;
  if (!bias.empty()) least_bias_ = *std::min_element(bias.begin(), bias.end());
}

const Tensor& Encoder::tensor(const std::string& name) const {
  return weights_.at(name);
}

int64_t Encoder::id_rows() const {
  return tensor("item.id.weight").shape[0];
}

void Encoder::encode_field(const FittedFeature& f, const FeatureColumn& column, bool accumulate,
                           MatrixView<float> out, const Exec& exec) const {
  const Tensor& weight = tensor(tensor_name(f.feature));
  if (is_id(f)) {
    Bags bags;
    bags.ids = column.values.data();
    bags.offsets = column.offsets.data();
    bags.n = static_cast<int64_t>(column.values.size());
    bags.bags = out.rows;
    bags.name = f.feature.name.c_str();
    if (!accumulate) {
      embedding_bag(matrix(weight), bags, Pool::kMean, BadIds::kThrow, out, exec);
      return;
    }
    std::vector<float> term(static_cast<size_t>(out.rows * out.cols));
    const MatrixView<float> view(term.data(), out.rows, out.cols);
    embedding_bag(matrix(weight), bags, Pool::kMean, BadIds::kThrow, view, exec);
    add_to(view, out);
    return;
  }
  const int64_t width = f.width();
  MatrixView<const float> x(column.dense.data(), out.rows, width);
  std::vector<float> encoded;
  if (f.feature.kind == FeatureKind::kNumber) {
    encoded.resize(static_cast<size_t>(out.rows * width));
    const MatrixView<float> view(encoded.data(), out.rows, width);
    piecewise_linear(column.dense.data(), f.edges.data(), width + 1, view, exec);
    x = view;
  }
  linear(x, matrix(weight), nullptr, Activation::kNone, accumulate, out, exec);
}

void Encoder::encode_items(const Batch& items, std::span<const int64_t> id_rows,
                           MatrixView<float> out, const Exec& exec) const {
  require_cpu(exec);
  require_shape("encode_items: out", out, items.rows, dim());
  if (static_cast<int64_t>(id_rows.size()) != items.rows) {
    throw Error(ErrorKind::kArgument, "encode_items: expected " + std::to_string(items.rows) +
                                          " id rows, got " + std::to_string(id_rows.size()));
  }
  if (items.rows == 0) return;
  const MatrixView<float> direction(out.data, out.rows, width(), out.ld);
  const SharedArray<float>& bias = tensor("item.bias.weight").data;
  // An item that training did not see is an empty bag.
  FeatureColumn ids;
  for (const int64_t row : id_rows) {
    if (row >= 0) ids.values.push_back(row);
    ids.offsets.push_back(static_cast<int64_t>(ids.values.size()));
  }
  Bags bags;
  bags.ids = ids.values.data();
  bags.offsets = ids.offsets.data();
  bags.n = static_cast<int64_t>(ids.values.size());
  bags.bags = items.rows;
  bags.name = "item.id";
  embedding_bag(matrix(tensor("item.id.weight")), bags, Pool::kSum, BadIds::kThrow, direction,
                exec);
  const auto features = features_.group(Group::kItem);
  for (size_t i = 0; i < features.size(); ++i) {
    encode_field(features[i], items.columns[i], /*accumulate=*/true, direction, exec);
  }
  l2_normalize(direction, kNormEps, direction, exec);
  for (int64_t r = 0; r < out.rows; ++r) {
    const int64_t row = id_rows[static_cast<size_t>(r)];
    out.row(r)[width()] = row < 0 ? least_bias_ : bias[static_cast<size_t>(row)];
  }
}

void Encoder::encode_state(const Batch& users, const HistoryBatch& history,
                           MatrixView<const float> item_vectors, MatrixView<float> state,
                           const Exec& exec) const {
  require_cpu(exec);
  require_shape("encode_state: state", state, users.rows, width());
  require_shape("encode_state: item_vectors", item_vectors, item_vectors.rows, dim());
  if (static_cast<int64_t>(history.offsets.size()) != users.rows + 1) {
    throw Error(ErrorKind::kArgument, "encode_state: expected " + std::to_string(users.rows) +
                                          " histories, got " +
                                          std::to_string(history.offsets.size() - 1));
  }
  if (users.rows == 0) return;
  const SharedArray<float>& bias = tensor("query.bias").data;
  for (int64_t r = 0; r < state.rows; ++r) std::copy(bias.begin(), bias.end(), state.row(r));
  const auto features = features_.group(Group::kUser);
  for (size_t i = 0; i < features.size(); ++i) {
    encode_field(features[i], users.columns[i], /*accumulate=*/true, state, exec);
  }
  if (architecture_.history == HistoryEncoder::kTransformer) {
    transform_histories(architecture_, weights_, history, item_vectors, state, exec);
  } else if (architecture_.history == HistoryEncoder::kSet) {
    add_set(history, item_vectors, state, exec);
    l2_normalize(state, kNormEps, state, exec);
  } else if (!history.items.empty()) {
    add_pools(history, item_vectors, state, exec);
  }
}

namespace {

// The weighted means of the histories' items. weigh(j, age): the weight of event j, the age-th from
// the end of its history.
template <class Weigh>
void mean_items(const HistoryBatch& history, MatrixView<const float> directions, const Weigh& weigh,
                MatrixView<float> out, const Exec& exec) {
  std::vector<double> raw(history.items.size());
  std::vector<float> weights(history.items.size());
  for (size_t r = 0; r + 1 < history.offsets.size(); ++r) {
    const auto begin = static_cast<size_t>(history.offsets[r]);
    const auto end = static_cast<size_t>(history.offsets[r + 1]);
    double total = 0.0;
    for (size_t j = begin; j < end; ++j) {
      raw[j] = weigh(j, end - 1 - j);
      total += raw[j];
    }
    for (size_t j = begin; j < end; ++j) {
      weights[j] = total > 0.0 ? static_cast<float>(raw[j] / total) : 0.0F;
    }
  }
  Bags bags;
  bags.ids = history.items.data();
  bags.offsets = history.offsets.data();
  bags.weights = weights.data();
  bags.n = static_cast<int64_t>(history.items.size());
  bags.bags = out.rows;
  bags.name = "history";
  embedding_bag(directions, bags, Pool::kSum, BadIds::kThrow, out, exec);
}

MatrixView<const float> directions_of(MatrixView<const float> item_vectors, int64_t width) {
  return {item_vectors.data, item_vectors.rows, width, item_vectors.ld};
}

}  // namespace

void Encoder::add_pools(const HistoryBatch& history, MatrixView<const float> item_vectors,
                        MatrixView<float> state, const Exec& exec) const {
  const SharedArray<float>& log_decay = tensor("history.log_decay").data;
  const SharedArray<float>& mix = tensor("history.mix").data;
  std::vector<float> pool(static_cast<size_t>(state.rows * state.cols));
  const MatrixView<float> pool_view(pool.data(), state.rows, state.cols);
  const int64_t t = width();
  for (size_t h = 0; h < log_decay.size(); ++h) {
    const double decay = std::exp(static_cast<double>(log_decay[h]));
    const auto weigh = [&](size_t j, size_t age) {
      return history.weights[j] * std::exp(-decay * static_cast<double>(age));
    };
    mean_items(history, directions_of(item_vectors, t), weigh, pool_view, exec);
    linear(pool_view, {mix.data() + static_cast<int64_t>(h) * t * t, t, t}, nullptr,
           Activation::kNone, /*accumulate=*/true, state, exec);
  }
}

void Encoder::add_set(const HistoryBatch& history, MatrixView<const float> item_vectors,
                      MatrixView<float> state, const Exec& exec) const {
  const SharedArray<float>& log_weight = tensor("history.log_weight.weight").data;
  std::vector<float> mean(static_cast<size_t>(state.rows * state.cols));
  const MatrixView<float> mean_view(mean.data(), state.rows, state.cols);
  const auto weigh = [&](size_t j, size_t) {
    const auto item = static_cast<size_t>(history.items[j]);
    const float log = item < log_weight.size() ? log_weight[item] : 0.0F;
    return history.weights[j] * std::exp(static_cast<double>(log));
  };
  mean_items(history, directions_of(item_vectors, width()), weigh, mean_view, exec);
  add_to(mean_view, state);
}

void Encoder::encode_query(MatrixView<const float> state, const Batch& context,
                           MatrixView<float> query, const Exec& exec) const {
  require_cpu(exec);
  require_shape("encode_query: state", state, context.rows, width());
  require_shape("encode_query: query", query, context.rows, dim());
  const int64_t rows = context.rows;
  if (rows == 0) return;
  const int64_t t = width();
  const MatrixView<float> direction(query.data, rows, t, query.ld);
  if (architecture_.head == Head::kNone) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(state.row(r), t, direction.row(r));
  } else {
    const auto features = features_.group(Group::kContext);
    const int64_t c = architecture_.context_dim;
    const int64_t width = c * static_cast<int64_t>(features.size());
    std::vector<float> fields(static_cast<size_t>(rows * width));
    for (size_t i = 0; i < features.size(); ++i) {
      const MatrixView<float> block(fields.data() + static_cast<int64_t>(i) * c, rows, c, width);
      encode_field(features[i], context.columns[i], /*accumulate=*/false, block, exec);
    }
    std::vector<float> hidden(static_cast<size_t>(rows * architecture_.head_hidden));
    const MatrixView<float> hidden_view(hidden.data(), rows, architecture_.head_hidden);
    linear({fields.data(), rows, width}, matrix(tensor("head.hidden.weight")),
           tensor("head.hidden.bias").data.data(), Activation::kGelu, /*accumulate=*/false,
           hidden_view, exec);
    const int64_t rank = architecture_.head_rank;
    std::vector<float> out(static_cast<size_t>(rows * (t + rank)));
    const MatrixView<float> out_view(out.data(), rows, t + rank);
    linear(hidden_view, matrix(tensor("head.out.weight")), tensor("head.out.bias").data.data(),
           Activation::kNone, /*accumulate=*/false, out_view, exec);
    bilinear_head(state, {out.data(), rows, t, out_view.ld},
                  {out.data() + t, rows, rank, out_view.ld}, matrix(tensor("head.w_in")),
                  matrix(tensor("head.w_out")), direction, exec);
  }
  const auto scale = static_cast<float>(1.0 / architecture_.temperature);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < t; ++j) direction.row(r)[j] *= scale;
    query.row(r)[t] = 1.0F;
  }
}

}  // namespace hypertower
