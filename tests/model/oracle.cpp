#include "tests/model/oracle.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace hypertower {
namespace {

double weight_at(const Tensor& t, int64_t row, int64_t col) {
  return t.data[static_cast<size_t>(row * t.shape[1] + col)];
}

// The field's `width` numbers for one value.
Vector field(const FittedFeature& f, const Tensor& w, const Value& value, int64_t width) {
  Vector out(static_cast<size_t>(width), 0.0);
  const auto add_column = [&](int64_t column, double factor) {
    for (int64_t j = 0; j < width; ++j) {
      out[static_cast<size_t>(j)] += factor * weight_at(w, j, column);
    }
  };
  if (is_missing(value)) return out;
  switch (f.feature.kind) {
    case FeatureKind::kNumber: {
      const auto* integer = std::get_if<int64_t>(&value);
      const double x = integer != nullptr ? static_cast<double>(*integer) : std::get<double>(value);
      for (size_t e = 0; e + 1 < f.edges.size(); ++e) {
        const double low = f.edges[e];
        const double high = f.edges[e + 1];
        add_column(static_cast<int64_t>(e), std::clamp((x - low) / (high - low), 0.0, 1.0));
      }
      return out;
    }
    case FeatureKind::kVector: {
      const auto& numbers = std::get<std::vector<double>>(value);
      for (size_t j = 0; j < numbers.size(); ++j) add_column(static_cast<int64_t>(j), numbers[j]);
      return out;
    }
    default:
      break;
  }
  const std::vector<std::string> texts = category_texts(f.feature, value);
  for (const std::string& text : texts) {
    const int64_t row = f.vocabulary.row(text);
    for (int64_t j = 0; j < width; ++j) {
      out[static_cast<size_t>(j)] += weight_at(w, row, j) / static_cast<double>(texts.size());
    }
  }
  return out;
}

Value value_of(const FittedFeature& f, const Record& record, const double* time) {
  for (const auto& [name, value] : record) {
    if (name == f.feature.name) return value;
  }
  if (f.feature.from_time != TimePart::kNone && time != nullptr) {
    return time_part(f.feature.from_time, *time);
  }
  return {};
}

const Tensor& tensor_of(const Weights& weights, const Feature& f) {
  return weights.at(std::string(group_word(f.group)) + "." + f.name + ".weight");
}

void add_fields(const FeatureSpace& features, Group g, const Weights& weights, const Record& record,
                Vector& out) {
  for (const FittedFeature& f : features.group(g)) {
    const Vector term = field(f, tensor_of(weights, f.feature), value_of(f, record, nullptr),
                              static_cast<int64_t>(out.size()));
    for (size_t j = 0; j < out.size(); ++j) out[j] += term[j];
  }
}

void normalize(Vector& v) {
  double sum = 0.0;
  for (const double x : v) sum += x * x;
  const double norm = std::max(std::sqrt(sum), 1e-12);
  for (double& x : v) x /= norm;
}

// W x + b, W [out, in].
Vector affine(const Tensor& w, const Tensor& b, const Vector& x) {
  Vector y(static_cast<size_t>(w.shape[0]));
  for (size_t r = 0; r < y.size(); ++r) {
    y[r] = b.data[r];
    for (size_t c = 0; c < x.size(); ++c) {
      y[r] += weight_at(w, static_cast<int64_t>(r), static_cast<int64_t>(c)) * x[c];
    }
  }
  return y;
}

Vector with_pools(const Architecture& a, const Weights& weights, Vector out,
                  const OracleHistory& history, std::span<const float> item_vectors) {
  const auto d = static_cast<size_t>(a.dim);
  const auto t = static_cast<size_t>(a.width());
  const SharedArray<float>& mix = weights.at("history.mix").data;
  for (size_t h = 0; h < static_cast<size_t>(a.history_pools); ++h) {
    const double decay = std::exp(weights.at("history.log_decay").data[h]);
    Vector pool(t, 0.0);
    double total = 0.0;
    for (size_t j = 0; j < history.items.size(); ++j) {
      const double age = static_cast<double>(history.items.size() - 1 - j);
      const double w = history.kind_weights[j] * std::exp(-decay * age);
      total += w;
      for (size_t c = 0; c < t; ++c) {
        pool[c] += w * item_vectors[static_cast<size_t>(history.items[j]) * d + c];
      }
    }
    if (total == 0.0) continue;
    for (size_t r = 0; r < t; ++r) {
      for (size_t c = 0; c < t; ++c) out[r] += mix[(h * t + r) * t + c] * pool[c] / total;
    }
  }
  return out;
}

Vector with_set(const Architecture& a, const Weights& weights, Vector out,
                const OracleHistory& history, std::span<const float> item_vectors) {
  const SharedArray<float>& log_weight = weights.at("history.log_weight.weight").data;
  const Vector person = out;
  double total = 0.0;
  std::fill(out.begin(), out.end(), 0.0);
  for (size_t j = 0; j < history.items.size(); ++j) {
    const auto item = static_cast<size_t>(history.items[j]);
    const double w =
        history.kind_weights[j] * (item < log_weight.size() ? std::exp(log_weight[item]) : 1.0);
    total += w;
    for (size_t c = 0; c < out.size(); ++c) {
      out[c] += w * item_vectors[item * static_cast<size_t>(a.dim) + c];
    }
  }
  for (size_t c = 0; c < out.size(); ++c) {
    out[c] = person[c] + (total > 0 ? out[c] / total : 0.0);
  }
  normalize(out);
  return out;
}

Vector layer_normed(const Weights& weights, const std::string& name, const Vector& x) {
  double mean = 0.0, variance = 0.0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  Vector out(x.size());
  for (size_t c = 0; c < x.size(); ++c) {
    out[c] = (x[c] - mean) / std::sqrt(variance + 1e-5) * weights.at(name + ".weight").data[c] +
             weights.at(name + ".bias").data[c];
  }
  return out;
}

double gelu(double x) {
  return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
}

Vector transformed(const Architecture& a, const Weights& weights, const Vector& person,
                   const OracleHistory& history, std::span<const float> item_vectors) {
  const auto d = static_cast<size_t>(a.dim);
  const auto t = static_cast<size_t>(a.width());
  const size_t tokens = history.items.size() + 1;
  const Tensor& place = weights.at("history.place.weight");
  std::vector<Vector> x(tokens, person);
  for (size_t j = 0; j < tokens; ++j) {
    for (size_t c = 0; c < t; ++c) {
      if (j > 0) {
        const auto item = static_cast<size_t>(history.items[j - 1]);
        x[j][c] = std::sqrt(static_cast<double>(t)) * item_vectors[item * d + c] +
                  weight_at(weights.at("history.kind.weight"), history.kinds[j - 1],
                            static_cast<int64_t>(c));
      }
      x[j][c] += weight_at(place, static_cast<int64_t>(j), static_cast<int64_t>(c));
    }
  }
  const auto map = [&](const std::string& name, const Vector& in) {
    return affine(weights.at(name + ".weight"), weights.at(name + ".bias"), in);
  };
  const size_t head = d / static_cast<size_t>(a.history_heads);
  for (int64_t l = 0; l < a.history_layers; ++l) {
    const std::string layer = "history." + std::to_string(l) + ".";
    std::vector<Vector> qkv;
    for (const Vector& token : x) {
      qkv.push_back(map(layer + "qkv", layer_normed(weights, layer + "attention_norm", token)));
    }
    for (size_t i = 0; i < tokens; ++i) {
      Vector seen(d, 0.0);
      for (size_t first = 0; first < d; first += head) {
        Vector share(i + 1, 0.0);
        double total = 0.0;
        for (size_t j = 0; j <= i; ++j) {
          for (size_t c = first; c < first + head; ++c) share[j] += qkv[i][c] * qkv[j][d + c];
          share[j] = std::exp(share[j] / std::sqrt(static_cast<double>(head)));
          total += share[j];
        }
        for (size_t j = 0; j <= i; ++j) {
          for (size_t c = first; c < first + head; ++c) {
            seen[c] += share[j] / total * qkv[j][2 * d + c];
          }
        }
      }
      const Vector added = map(layer + "out", seen);
      for (size_t c = 0; c < t; ++c) x[i][c] += added[c];
    }
    for (Vector& token : x) {
      Vector hidden = map(layer + "feed", layer_normed(weights, layer + "feed_norm", token));
      for (double& v : hidden) v = gelu(v);
      const Vector added = map(layer + "back", hidden);
      for (size_t c = 0; c < t; ++c) token[c] += added[c];
    }
  }
  Vector out = layer_normed(weights, "history.norm", x.back());
  normalize(out);
  return out;
}

}  // namespace

Vector oracle_item(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                   const Record& record, int64_t id_row) {
  Vector out(static_cast<size_t>(a.width()), 0.0);
  if (id_row >= 0) {
    for (int64_t j = 0; j < a.width(); ++j) {
      out[static_cast<size_t>(j)] = weight_at(weights.at("item.id.weight"), id_row, j);
    }
  }
  add_fields(features, Group::kItem, weights, record, out);
  normalize(out);
  const SharedArray<float>& bias = weights.at("item.bias.weight").data;
  out.push_back(id_row >= 0 ? bias[static_cast<size_t>(id_row)]
                            : *std::min_element(bias.begin(), bias.end()));
  return out;
}

Vector oracle_state(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Record& user, const OracleHistory& history,
                    std::span<const float> item_vectors) {
  const SharedArray<float>& bias = weights.at("query.bias").data;
  Vector person(bias.begin(), bias.end());
  add_fields(features, Group::kUser, weights, user, person);
  switch (a.history) {
    case HistoryEncoder::kTransformer:
      return transformed(a, weights, person, history, item_vectors);
    case HistoryEncoder::kSet:
      return with_set(a, weights, person, history, item_vectors);
    default:
      return with_pools(a, weights, person, history, item_vectors);
  }
}

Vector oracle_query(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Vector& state, const Record& context, double time) {
  Vector query = state;
  if (a.head == Head::kBilinear) {
    Vector fields;
    for (const FittedFeature& f : features.group(Group::kContext)) {
      const Vector part =
          field(f, tensor_of(weights, f.feature), value_of(f, context, &time), a.context_dim);
      fields.insert(fields.end(), part.begin(), part.end());
    }
    Vector hidden =
        affine(weights.at("head.hidden.weight"), weights.at("head.hidden.bias"), fields);
    for (double& x : hidden) x = gelu(x);
    const Vector out = affine(weights.at("head.out.weight"), weights.at("head.out.bias"), hidden);
    const auto d = static_cast<size_t>(a.width());
    const auto rank = static_cast<size_t>(a.head_rank);
    for (size_t c = 0; c < d; ++c) query[c] += out[c];
    for (size_t k = 0; k < rank; ++k) {
      double inner = 0.0;
      for (size_t c = 0; c < d; ++c) {
        inner +=
            weight_at(weights.at("head.w_in"), static_cast<int64_t>(k), static_cast<int64_t>(c)) *
            state[c];
      }
      for (size_t c = 0; c < d; ++c) {
        query[c] +=
            weight_at(weights.at("head.w_out"), static_cast<int64_t>(c), static_cast<int64_t>(k)) *
            inner * out[d + k];
      }
    }
  }
  for (double& x : query) x /= a.temperature;
  query.push_back(1.0);
  return query;
}

}  // namespace hypertower
