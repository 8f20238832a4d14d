// Plain fp64 loops for embedding bags, written from the formulas of kernels/embedding.h, and
// generated lookups. Shared by the CPU and the CUDA tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/embedding.h"

namespace hypertower::test {

// One lookup with everything its checks need, in host memory.
struct Lookup {
  int64_t rows = 0;
  int64_t dim = 0;
  Pool pool = Pool::kSum;
  std::vector<float> table;  // [rows, dim]
  std::vector<float> grad;   // [bags, dim]
  std::vector<int64_t> ids;
  std::vector<int64_t> offsets;  // [bags + 1]
  std::vector<float> weights;    // empty: unweighted

  int64_t num_bags() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t num_ids() const { return static_cast<int64_t>(ids.size()); }
  bool valid(int64_t e) const { return ids[e] >= 0 && ids[e] < rows; }
  Bags bags() const {
    return {ids.data(), offsets.data(), weights.empty() ? nullptr : weights.data(),
            num_ids(),  num_bags(),     "genres"};
  }
  MatrixView<const float> table_view() const { return {table.data(), rows, dim}; }
  MatrixView<const float> grad_view() const { return {grad.data(), num_bags(), dim}; }
};

inline std::vector<float> random_floats(size_t count, std::mt19937& rng) {
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  std::vector<float> values(count);
  for (float& v : values) v = uniform(rng);
  return values;
}

// Bags of the given lengths over uniformly drawn ids.
inline Lookup make_lookup(int64_t rows, int64_t dim, const std::vector<int64_t>& lengths, Pool pool,
                          bool weighted, uint32_t seed = 1) {
  std::mt19937 rng(seed);
  Lookup lookup{rows, dim, pool, {}, {}, {}, {0}, {}};
  for (int64_t length : lengths) lookup.offsets.push_back(lookup.offsets.back() + length);
  std::uniform_int_distribution<int64_t> id(0, std::max<int64_t>(rows - 1, 0));
  for (int64_t e = 0; e < lookup.offsets.back(); ++e) lookup.ids.push_back(id(rng));
  lookup.table = random_floats(rows * dim, rng);
  lookup.grad = random_floats(lengths.size() * dim, rng);
  if (weighted) lookup.weights = random_floats(lookup.ids.size(), rng);
  return lookup;
}

// What one id's row is multiplied by in its bag.
inline double oracle_scale(const Lookup& lookup, int64_t bag, int64_t e) {
  const double weight = lookup.weights.empty() ? 1.0 : lookup.weights[e];
  const auto length = static_cast<double>(lookup.offsets[bag + 1] - lookup.offsets[bag]);
  return lookup.pool == Pool::kMean ? weight / length : weight;
}

// visit(bag, e) for each id in order.
template <class Visit>
void for_each_id(const Lookup& lookup, const Visit& visit) {
  for (int64_t b = 0; b < lookup.num_bags(); ++b) {
    for (int64_t e = lookup.offsets[b]; e < lookup.offsets[b + 1]; ++e) visit(b, e);
  }
}

inline std::vector<double> oracle_forward(const Lookup& lookup) {
  std::vector<double> out(lookup.num_bags() * lookup.dim, 0.0);
  for_each_id(lookup, [&](int64_t b, int64_t e) {
    if (!lookup.valid(e)) return;
    for (int64_t j = 0; j < lookup.dim; ++j) {
      out[b * lookup.dim + j] +=
          oracle_scale(lookup, b, e) * lookup.table[lookup.ids[e] * lookup.dim + j];
    }
  });
  return out;
}

// Row -> its gradient; rows that no valid id names are absent.
inline std::map<int64_t, std::vector<double>> oracle_row_gradient(const Lookup& lookup) {
  std::map<int64_t, std::vector<double>> gradient;
  for_each_id(lookup, [&](int64_t b, int64_t e) {
    if (!lookup.valid(e)) return;
    std::vector<double>& row = gradient[lookup.ids[e]];
    row.resize(lookup.dim, 0.0);
    for (int64_t j = 0; j < lookup.dim; ++j) {
      row[j] += oracle_scale(lookup, b, e) * lookup.grad[b * lookup.dim + j];
    }
  });
  return gradient;
}

inline std::vector<double> oracle_weight_gradient(Lookup lookup) {
  lookup.weights.assign(lookup.ids.size(), 1.0F);
  std::vector<double> gradient(lookup.ids.size(), 0.0);
  for_each_id(lookup, [&](int64_t b, int64_t e) {
    if (!lookup.valid(e)) return;
    for (int64_t j = 0; j < lookup.dim; ++j) {
      gradient[e] += oracle_scale(lookup, b, e) * lookup.grad[b * lookup.dim + j] *
                     lookup.table[lookup.ids[e] * lookup.dim + j];
    }
  });
  return gradient;
}

// A table with its optimizer state in double, stepped by the textbook formulas.
struct OracleTable {
  int64_t dim;
  std::vector<double> weight, first, second;  // [rows, dim]; row-wise Adagrad uses first[row * dim]

  OracleTable(const std::vector<float>& start, int64_t d)
      : dim(d),
        weight(start.begin(), start.end()),
        first(start.size(), 0.0),
        second(start.size(), 0.0) {}

  void step(const std::map<int64_t, std::vector<double>>& gradient, const OptimizerStep& s) {
    for (const auto& [row, g] : gradient) {
      double squares = 0.0;
      for (double v : g) squares += v * v;
      if (s.kind == Optimizer::kRowWiseAdagrad) {
        first[row * dim] += squares / static_cast<double>(dim);
      }
      for (int64_t j = 0; j < dim; ++j) {
        const int64_t at = row * dim + j;
        weight[at] -= double{s.lr} * s.weight_decay * weight[at];
        switch (s.kind) {
          case Optimizer::kSgd:
            weight[at] -= s.lr * g[j];
            break;
          case Optimizer::kRowWiseAdagrad:
            weight[at] -= s.lr * g[j] / (std::sqrt(first[row * dim]) + s.eps);
            break;
          case Optimizer::kAdagrad:
            first[at] += g[j] * g[j];
            weight[at] -= s.lr * g[j] / (std::sqrt(first[at]) + s.eps);
            break;
          case Optimizer::kAdam: {
            first[at] = s.beta1 * first[at] + (1.0 - s.beta1) * g[j];
            second[at] = s.beta2 * second[at] + (1.0 - s.beta2) * g[j] * g[j];
            const double m = first[at] / (1.0 - std::pow(s.beta1, s.step));
            const double v = second[at] / (1.0 - std::pow(s.beta2, s.step));
            weight[at] -= s.lr * m / (std::sqrt(v) + s.eps);
            break;
          }
        }
      }
    }
  }
};

inline constexpr Optimizer kOptimizers[] = {Optimizer::kSgd, Optimizer::kRowWiseAdagrad,
                                            Optimizer::kAdagrad, Optimizer::kAdam};

inline const std::vector<int64_t> kDims = {1, 2, 3, 4, 7, 8, 16, 31, 32, 64, 100, 128, 256, 513};

// Lengths of bags that between them are empty, first and last too, and lie around powers of two.
inline const std::vector<int64_t> kLengths = {0, 1, 2, 0, 0, 5, 31, 32, 33, 63, 1, 0};

}  // namespace hypertower::test
