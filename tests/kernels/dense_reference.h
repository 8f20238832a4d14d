// The layers of kernels/dense.h in double, for the CPU and the CUDA tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/dense.h"

namespace hypertower::testing {

using Doubles = std::vector<double>;

// A matrix that owns its numbers; rows are `ld` apart and the padding holds NaN.
struct Matrix {
  int64_t rows;
  int64_t cols;
  int64_t ld;
  std::vector<float> data;

  Matrix(int64_t r, int64_t c, int64_t padding = 0)
      : rows(r), cols(c), ld(c + padding), data(r * (c + padding), std::nanf("")) {}
  MatrixView<float> view() { return {data.data(), rows, cols, ld}; }
  MatrixView<const float> view() const { return {data.data(), rows, cols, ld}; }
  float& at(int64_t r, int64_t c) { return data[r * ld + c]; }
  float at(int64_t r, int64_t c) const { return data[r * ld + c]; }
};

inline Matrix random_matrix(uint64_t seed, int64_t rows, int64_t cols, int64_t padding = 0,
                            float scale = 1.0F) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  Matrix m(rows, cols, padding);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) m.at(r, c) = normal(rng);
  }
  return m;
}

inline double reference_activation(Activation act, double x) {
  if (act == Activation::kRelu) return std::max(x, 0.0);
  if (act == Activation::kGelu) return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  return x;
}

// Row-major [R, Out].
inline Doubles reference_linear(const Matrix& x, const Matrix& weight, const float* bias,
                                Activation act) {
  Doubles out;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t o = 0; o < weight.rows; ++o) {
      double sum = bias == nullptr ? 0.0 : bias[o];
      for (int64_t j = 0; j < x.cols; ++j) sum += double{x.at(r, j)} * double{weight.at(o, j)};
      out.push_back(reference_activation(act, sum));
    }
  }
  return out;
}

inline Doubles reference_layer_norm(const Matrix& x, const Matrix& gamma, const Matrix& beta,
                                    double eps) {
  Doubles out;
  for (int64_t r = 0; r < x.rows; ++r) {
    double mean = 0.0, variance = 0.0;
    for (int64_t c = 0; c < x.cols; ++c) mean += x.at(r, c);
    mean /= static_cast<double>(x.cols);
    for (int64_t c = 0; c < x.cols; ++c) variance += std::pow(x.at(r, c) - mean, 2);
    variance /= static_cast<double>(x.cols);
    for (int64_t c = 0; c < x.cols; ++c) {
      out.push_back((x.at(r, c) - mean) / std::sqrt(variance + eps) * gamma.at(0, c) +
                    beta.at(0, c));
    }
  }
  return out;
}

inline Doubles reference_l2_normalize(const Matrix& x, double eps) {
  Doubles out;
  for (int64_t r = 0; r < x.rows; ++r) {
    double squares = 0.0;
    for (int64_t c = 0; c < x.cols; ++c) squares += double{x.at(r, c)} * double{x.at(r, c)};
    for (int64_t c = 0; c < x.cols; ++c) {
      out.push_back(x.at(r, c) / std::max(std::sqrt(squares), eps));
    }
  }
  return out;
}

inline Doubles reference_bilinear_head(const Matrix& state, const Matrix& shift, const Matrix& gate,
                                       const Matrix& w_in, const Matrix& w_out) {
  const Doubles inner = reference_linear(state, w_in, nullptr, Activation::kNone);
  Doubles out;
  for (int64_t r = 0; r < state.rows; ++r) {
    for (int64_t d = 0; d < state.cols; ++d) {
      double sum = double{state.at(r, d)} + double{shift.at(r, d)};
      for (int64_t k = 0; k < gate.cols; ++k) {
        sum += inner[r * gate.cols + k] * gate.at(r, k) * w_out.at(d, k);
      }
      out.push_back(sum);
    }
  }
  return out;
}

// Within `tolerance` times the largest expected magnitude (at least 1), and no write to the
// padding.
inline void expect_near(const Matrix& got, const Doubles& expected, double tolerance = 2e-6) {
  ASSERT_EQ(static_cast<int64_t>(expected.size()), got.rows * got.cols);
  double scale = 1.0;
  for (const double e : expected) scale = std::max(scale, std::fabs(e));
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.cols; ++c) {
      ASSERT_NEAR(got.at(r, c), expected[r * got.cols + c], tolerance * scale)
          << "row " << r << " column " << c;
    }
    for (int64_t c = got.cols; c < got.ld; ++c) {
      ASSERT_TRUE(std::isnan(got.data[r * got.ld + c])) << "padding of row " << r;
    }
  }
}

}  // namespace hypertower::testing
