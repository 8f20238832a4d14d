// The softmax loss in plain fp64 loops, written from the formulas of kernels/softmax_loss.h, and
// generated inputs. Shared by the CPU and the CUDA tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/softmax_loss.h"

namespace hypertower::test {

// Host copies of everything a SoftmaxLossInput points to; empty vectors mean null.
struct LossCase {
  int64_t rows = 0, columns = 0, dim = 0;
  std::vector<float> query, column;  // [rows, dim], [columns, dim]
  std::vector<int64_t> target;
  float scale = 1.0F;
  std::vector<float> logq, weight;
  std::vector<int64_t> column_item, column_user, row_user;
  std::vector<int64_t> exclude_values, exclude_offsets;
  std::vector<float> grad_loss;

  SoftmaxLossInput input() const {
    const auto data = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
    SoftmaxLossInput in;
    in.queries = {query.data(), rows, dim};
    in.columns = {column.data(), columns, dim};
    in.target = target.data();
    in.scale = scale;
    in.logq = data(logq);
    in.weight = data(weight);
    in.column_item = data(column_item);
    in.column_user = data(column_user);
    in.row_user = data(row_user);
    in.row_exclude = {data(exclude_values), data(exclude_offsets), rows};
    return in;
  }

  bool masked(int64_t b, int64_t c) const {
    if (c == target[b]) return false;
    if (!column_item.empty() && column_item[c] == column_item[target[b]]) return true;
    if (!column_user.empty() && column_user[c] >= 0 && column_user[c] == row_user[b]) return true;
    if (exclude_offsets.empty()) return false;
    const auto begin = exclude_values.begin();
    return std::find(begin + exclude_offsets[b], begin + exclude_offsets[b + 1], column_item[c]) !=
           begin + exclude_offsets[b + 1];
  }
};

inline LossCase make_loss_case(int64_t rows, int64_t columns, int64_t dim, uint32_t seed = 1) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  LossCase c{rows, columns, dim, {}, {}, {}, 1.7F, {}, {}, {}, {}, {}, {}, {}, {}};
  for (int64_t i = 0; i < rows * dim; ++i) c.query.push_back(uniform(rng));
  for (int64_t i = 0; i < columns * dim; ++i) c.column.push_back(uniform(rng));
  for (int64_t b = 0; b < rows; ++b) c.target.push_back(static_cast<int64_t>(rng() % columns));
  for (int64_t b = 0; b < rows; ++b) c.grad_loss.push_back(uniform(rng));
  return c;
}

// Adds weights, logq and all masks, dense enough that most rows meet each of them.
inline void add_everything(LossCase& c, uint32_t seed = 2) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(0.0F, 2.0F);
  for (int64_t i = 0; i < c.columns; ++i) {
    c.logq.push_back(-uniform(rng));
    c.column_item.push_back(static_cast<int64_t>(rng() % (c.columns / 2 + 1)));
    c.column_user.push_back(static_cast<int64_t>(rng() % 9) - 1);
  }
  c.exclude_offsets = {0};
  for (int64_t b = 0; b < c.rows; ++b) {
    c.weight.push_back(b % 5 == 3 ? 0.0F : uniform(rng));
    c.row_user.push_back(static_cast<int64_t>(rng() % 9) - 1);
    std::vector<int64_t> items(b % 4 == 1 ? 0 : rng() % 6);
    for (int64_t& item : items) item = static_cast<int64_t>(rng() % (c.columns + 5));
    std::sort(items.begin(), items.end());
    c.exclude_values.insert(c.exclude_values.end(), items.begin(), items.end());
    c.exclude_offsets.push_back(static_cast<int64_t>(c.exclude_values.size()));
  }
}

struct LossOracle {
  std::vector<double> loss, log_z, d_query, d_column;
  double d_scale = 0.0;
  double total = 0.0;  // sum of grad_loss * loss, whose derivatives the gradients are
};

inline LossOracle softmax_loss_oracle(const LossCase& in) {
  LossOracle out;
  out.d_query.assign(in.rows * in.dim, 0.0);
  out.d_column.assign(in.columns * in.dim, 0.0);
  std::vector<double> dot(in.columns), z(in.columns);
  for (int64_t b = 0; b < in.rows; ++b) {
    double top = -std::numeric_limits<double>::infinity(), sum = 0.0;
    for (int64_t c = 0; c < in.columns; ++c) {
      dot[c] = 0.0;
      for (int64_t j = 0; j < in.dim; ++j) {
        dot[c] += double{in.query[b * in.dim + j]} * in.column[c * in.dim + j];
      }
      z[c] = dot[c] * in.scale - (in.logq.empty() ? 0.0 : in.logq[c]);
      if (!in.masked(b, c)) top = std::max(top, z[c]);
    }
    for (int64_t c = 0; c < in.columns; ++c) {
      if (!in.masked(b, c)) sum += std::exp(z[c] - top);
    }
    const double log_z = top + std::log(sum);
    const double weight = in.weight.empty() ? 1.0 : in.weight[b];
    out.log_z.push_back(log_z);
    out.loss.push_back(weight * (log_z - z[in.target[b]]));
    out.total += in.grad_loss[b] * out.loss.back();
    for (int64_t c = 0; c < in.columns; ++c) {
      const double p = in.masked(b, c) ? 0.0 : std::exp(z[c] - log_z);
      const double g = in.grad_loss[b] * weight * (p - (c == in.target[b] ? 1.0 : 0.0));
      out.d_scale += g * dot[c];
      for (int64_t j = 0; j < in.dim; ++j) {
        out.d_query[b * in.dim + j] += g * in.scale * in.column[c * in.dim + j];
        out.d_column[c * in.dim + j] += g * in.scale * in.query[b * in.dim + j];
      }
    }
  }
  return out;
}

}  // namespace hypertower::test
