#include "model/history_transformer.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "kernels/dense.h"
#include "kernels/error.h"
#include "kernels/parallel.h"

namespace hypertower {
namespace {

constexpr float kLayerNormEps = 1e-5F;  // as torch.nn.LayerNorm
constexpr float kNormEps = 1e-12F;      // as torch.nn.functional.normalize

// A matrix with its own memory.
struct Matrix {
  Matrix(int64_t rows, int64_t cols)
      : numbers(static_cast<size_t>(rows * cols)), view(numbers.data(), rows, cols) {}
  std::vector<float> numbers;
  MatrixView<float> view;
};

template <class T>
MatrixView<T> part(MatrixView<T> m, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  return {m.row(row) + col, rows, cols, m.ld};
}

// A linear map or a norm, by the prefix of its two tensors.
struct Affine {
  Affine(const Weights& weights, const std::string& name)
      : bias(weights.at(name + ".bias").data.data()) {
    const Tensor& w = weights.at(name + ".weight");
    weight = {w.data.data(), w.shape[0], w.shape.size() > 1 ? w.shape[1] : 1};
  }
  // The outputs [first, first + count).
  Affine outputs(int64_t first, int64_t count) const {
    Affine some = *this;
    some.weight = part(weight, first, count, 0, weight.cols);
    some.bias += first;
    return some;
  }

  MatrixView<const float> weight;
  const float* bias;
};

struct Layer {
  Layer(const Weights& weights, const std::string& prefix)
      : attention_norm(weights, prefix + "attention_norm"),
        qkv(weights, prefix + "qkv"),
        out(weights, prefix + "out"),
        feed_norm(weights, prefix + "feed_norm"),
        feed(weights, prefix + "feed"),
        back(weights, prefix + "back") {}

  Affine attention_norm, qkv, out, feed_norm, feed, back;
};

// out [Q, dim]: the last Q tokens look at themselves and at what came before, of T tokens.
// queries [Q, dim], keys and values [T, dim].
void attend(MatrixView<const float> queries, MatrixView<const float> keys,
            MatrixView<const float> values, int64_t heads, MatrixView<float> out,
            const Exec& exec) {
  const int64_t width = queries.cols / heads;
  const int64_t tokens = keys.rows;
  const float scale = 1.0F / std::sqrt(static_cast<float>(width));
  Matrix shares(queries.rows, tokens), turned(width, tokens);
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t first = h * width;
    linear(part(queries, 0, queries.rows, first, width), part(keys, 0, tokens, first, width),
           nullptr, Activation::kNone, /*accumulate=*/false, shares.view, exec);
    for (int64_t q = 0; q < queries.rows; ++q) {
      float* row = shares.view.row(q);
      const int64_t seen = tokens - queries.rows + q + 1;
      const float most = *std::max_element(row, row + seen);
      float total = 0.0F;
      for (int64_t j = 0; j < seen; ++j) {
        row[j] = std::exp((row[j] - most) * scale);
        total += row[j];
      }
      for (int64_t j = 0; j < seen; ++j) row[j] /= total;
      std::fill(row + seen, row + tokens, 0.0F);
    }
    for (int64_t j = 0; j < tokens; ++j) {
      for (int64_t c = 0; c < width; ++c) turned.view.row(c)[j] = values.row(j)[first + c];
    }
    linear(shares.view, turned.view, nullptr, Activation::kNone, /*accumulate=*/false,
           part(out, 0, out.rows, first, width), exec);
  }
}

class Transformer {
 public:
  Transformer(const Architecture& a, const Weights& weights)
      : a_(a),
        place_(weights.at("history.place.weight").data.data()),
        norm_(weights, "history.norm") {
    const auto kind = weights.find("history.kind.weight");
    if (kind != weights.end()) kind_ = kind->second.data.data();
    for (int64_t l = 0; l < a.history_layers; ++l) {
      layers_.emplace_back(weights, "history." + std::to_string(l) + ".");
    }
  }

  // `state` [1, t]: the person -> the state. `items` and `kinds` are those of its history.
  void run(std::span<const int64_t> items, std::span<const int64_t> kinds,
           MatrixView<const float> item_vectors, MatrixView<float> state, const Exec& exec) const {
    Matrix x = tokens(items, kinds, item_vectors, state);
    MatrixView<float> rows = x.view;  // all tokens; of the last layer only the last is wanted
    for (size_t l = 0; l < layers_.size(); ++l) {
      const bool is_last = l + 1 == layers_.size();
      const int64_t asked = is_last ? 1 : rows.rows;
      attention(layers_[l], rows, asked, exec);
      rows = part(rows, rows.rows - asked, asked, 0, rows.cols);
      feed(layers_[l], rows, exec);
    }
    layer_norm(rows, norm_.weight.data, norm_.bias, kLayerNormEps, state, exec);
    l2_normalize(state, kNormEps, state, exec);
  }

 private:
  Matrix tokens(std::span<const int64_t> items, std::span<const int64_t> kinds,
                MatrixView<const float> item_vectors, MatrixView<const float> person) const {
    const int64_t t = a_.width();
    const float scale = std::sqrt(static_cast<float>(t));
    Matrix x(static_cast<int64_t>(items.size()) + 1, t);
    for (int64_t c = 0; c < t; ++c) x.view.row(0)[c] = person.row(0)[c] + place_[c];
    for (size_t j = 0; j < items.size(); ++j) {
      const auto row = static_cast<int64_t>(j) + 1;
      const float* item = item_vectors.row(items[j]);
      for (int64_t c = 0; c < t; ++c) {
        x.view.row(row)[c] = scale * item[c] + place_[row * t + c];
        if (kind_ != nullptr) x.view.row(row)[c] += kind_[kinds[j] * t + c];
      }
    }
    return x;
  }

  // Adds what the last `asked` tokens attend to.
  void attention(const Layer& layer, MatrixView<float> x, int64_t asked, const Exec& exec) const {
    const int64_t n = x.rows;
    Matrix normed(n, x.cols), queries(asked, a_.dim), memory(n, 2 * a_.dim), seen(asked, a_.dim);
    layer_norm(x, layer.attention_norm.weight.data, layer.attention_norm.bias, kLayerNormEps,
               normed.view, exec);
    const MatrixView<const float> asking = part(normed.view, n - asked, asked, 0, x.cols);
    apply(layer.qkv.outputs(0, a_.dim), asking, Activation::kNone, false, queries.view, exec);
    apply(layer.qkv.outputs(a_.dim, 2 * a_.dim), normed.view, Activation::kNone, false, memory.view,
          exec);
    attend(queries.view, part(memory.view, 0, n, 0, a_.dim),
           part(memory.view, 0, n, a_.dim, a_.dim), a_.history_heads, seen.view, exec);
    apply(layer.out, seen.view, Activation::kNone, true, part(x, n - asked, asked, 0, x.cols),
          exec);
  }

  void feed(const Layer& layer, MatrixView<float> x, const Exec& exec) const {
    Matrix normed(x.rows, x.cols), hidden(x.rows, layer.feed.weight.rows);
    layer_norm(x, layer.feed_norm.weight.data, layer.feed_norm.bias, kLayerNormEps, normed.view,
               exec);
    apply(layer.feed, normed.view, Activation::kGelu, false, hidden.view, exec);
    apply(layer.back, hidden.view, Activation::kNone, true, x, exec);
  }

  static void apply(const Affine& map, MatrixView<const float> x, Activation act, bool accumulate,
                    MatrixView<float> out, const Exec& exec) {
    linear(x, map.weight, map.bias, act, accumulate, out, exec);
  }

  const Architecture& a_;
  const float* place_;
  const float* kind_ = nullptr;
  Affine norm_;
  std::vector<Layer> layers_;
};

}  // namespace

int64_t kind_row(const Schema& schema, const std::string& kind) {
  const auto found = schema.kind_weights.find(kind);
  if (found == schema.kind_weights.end()) return 0;
  return 1 + std::distance(schema.kind_weights.begin(), found);
}

std::map<std::string, std::vector<int64_t>> transformer_shapes(const Architecture& a,
                                                               const Schema& schema) {
  const int64_t t = a.width();
  std::map<std::string, std::vector<int64_t>> shapes;
  const auto affine = [&](const std::string& name, int64_t out, int64_t in) {
    shapes[name + ".weight"] = {out, in};
    shapes[name + ".bias"] = {out};
  };
  const auto norm = [&](const std::string& name) {
    shapes[name + ".weight"] = {t};
    shapes[name + ".bias"] = {t};
  };
  shapes["history.place.weight"] = {schema.history_length + 1, t};
  if (!schema.kind_weights.empty()) {
    shapes["history.kind.weight"] = {static_cast<int64_t>(schema.kind_weights.size()) + 1, t};
  }
  for (int64_t l = 0; l < a.history_layers; ++l) {
    const std::string prefix = "history." + std::to_string(l) + ".";
    norm(prefix + "attention_norm");
    affine(prefix + "qkv", 3 * a.dim, t);
    affine(prefix + "out", t, a.dim);
    norm(prefix + "feed_norm");
    affine(prefix + "feed", 4 * a.dim, t);
    affine(prefix + "back", t, 4 * a.dim);
  }
  norm("history.norm");
  return shapes;
}

void transform_histories(const Architecture& architecture, const Weights& weights,
                         const HistoryBatch& history, MatrixView<const float> item_vectors,
                         MatrixView<float> state, const Exec& exec) {
  const Transformer transformer(architecture, weights);
  const int64_t most = weights.at("history.place.weight").shape[0] - 1;
  for (const int64_t item : history.items) {
    if (item >= 0 && item < item_vectors.rows) continue;
    throw Error(ErrorKind::kArgument, "history: expected rows of items below " +
                                          std::to_string(item_vectors.rows) + ", got " +
                                          std::to_string(item));
  }
  for (size_t r = 0; r + 1 < history.offsets.size(); ++r) {
    const int64_t events = history.offsets[r + 1] - history.offsets[r];
    if (events <= most) continue;
    throw Error(ErrorKind::kArgument, "history: expected at most " + std::to_string(most) +
                                          " events, got " + std::to_string(events));
  }
  // Histories go side by side, each in a thread of its own; one alone is spread over the threads.
  Exec inner = exec;
  if (state.rows > 1) inner.threads = 1;
  parallel_for(exec.threads, state.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto first = static_cast<size_t>(history.offsets[static_cast<size_t>(r)]);
      const auto count = static_cast<size_t>(history.offsets[static_cast<size_t>(r) + 1]) - first;
      transformer.run(std::span(history.items).subspan(first, count),
                      std::span(history.kinds).subspan(first, count), item_vectors,
                      part(state, r, 1, 0, state.cols), inner);
    }
  });
}

}  // namespace hypertower
