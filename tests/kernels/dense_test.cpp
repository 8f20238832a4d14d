#include "kernels/dense.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <string>

#include "kernels/error.h"
#include "tests/kernels/dense_reference.h"
#include "tests/kernels/simd_targets.h"

namespace hypertower {
namespace {

using namespace testing;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Linear, AgreesWithTheReference) {
  for (const int64_t rows : {0, 1, 3, 17, 40}) {
    for (const int64_t in : {1, 7, 16, 33, 100}) {
      for (const int64_t out_cols : {1, 4, 31, 70}) {
        const Matrix x = random_matrix(1, rows, in, 3);
        const Matrix w = random_matrix(2, out_cols, in, 2);
        const Matrix bias = random_matrix(3, 1, out_cols);
        for (const auto act : {Activation::kNone, Activation::kRelu, Activation::kGelu}) {
          Matrix out(rows, out_cols, 5);
          linear(x.view(), w.view(), bias.data.data(), act, false, out.view(), {.threads = 2});
          expect_near(out, reference_linear(x, w, bias.data.data(), act));
        }
      }
    }
  }
}

TEST(Linear, WorksWithoutBiasOrColumns) {
  const Matrix x = random_matrix(1, 5, 20), w = random_matrix(2, 6, 20);
  Matrix out(5, 6);
  linear(x.view(), w.view(), nullptr, Activation::kNone, false, out.view(), {});
  expect_near(out, reference_linear(x, w, nullptr, Activation::kNone));

  const Matrix none(5, 0), no_weight(6, 0), bias = random_matrix(3, 1, 6);
  linear(none.view(), no_weight.view(), bias.data.data(), Activation::kNone, false, out.view(), {});
  for (int64_t c = 0; c < 6; ++c) EXPECT_EQ(out.at(4, c), bias.at(0, c));
}

TEST(Linear, AccumulatesAfterTheActivation) {
  const Matrix x = random_matrix(1, 3, 10), w = random_matrix(2, 4, 10);
  Matrix out(3, 4);
  std::fill(out.data.begin(), out.data.end(), -100.0F);
  linear(x.view(), w.view(), nullptr, Activation::kRelu, true, out.view(), {});
  Doubles expected = reference_linear(x, w, nullptr, Activation::kRelu);
  for (double& e : expected) e -= 100.0;
  expect_near(out, expected);
}

TEST(Linear, IsAccurateOnEveryInstructionSet) {
  const Matrix x = random_matrix(1, 9, 77), w = random_matrix(2, 21, 77);
  const Doubles expected = reference_linear(x, w, nullptr, Activation::kNone);
  for_each_simd_target([&] {
    Matrix out(9, 21);
    linear(x.view(), w.view(), nullptr, Activation::kNone, false, out.view(), {});
    expect_near(out, expected);
  });
}

TEST(Linear, KeepsNaN) {
  const Matrix w = random_matrix(2, 3, 4);
  Matrix x = random_matrix(1, 2, 4);
  x.at(1, 2) = kNaN;
  for (const auto act : {Activation::kNone, Activation::kRelu, Activation::kGelu}) {
    Matrix out(2, 3);
    linear(x.view(), w.view(), nullptr, act, false, out.view(), {});
    EXPECT_FALSE(std::isnan(out.at(0, 1)));
    EXPECT_TRUE(std::isnan(out.at(1, 1)));
  }
}

// A row of a batch has the bits it has alone, on any number of threads.
TEST(Dense, ARowDoesNotDependOnItsBatchOrThreads) {
  const int64_t rows = 37, dim = 200, rank = 24;
  const Matrix x = random_matrix(1, rows, dim), w = random_matrix(2, 190, dim);
  const Matrix shift = random_matrix(3, rows, dim), gate = random_matrix(4, rows, rank);
  const Matrix w_in = random_matrix(5, rank, dim), w_out = random_matrix(6, dim, rank);
  for_each_simd_target([&] {
    Matrix together(rows, 190), head(rows, dim);
    linear(x.view(), w.view(), nullptr, Activation::kGelu, false, together.view(), {.threads = 4});
    bilinear_head(x.view(), shift.view(), gate.view(), w_in.view(), w_out.view(), head.view(),
                  {.threads = 3});
    for (int64_t r = 0; r < rows; ++r) {
      const auto row = [r](const Matrix& m) {
        return MatrixView<const float>(m.view().row(r), 1, m.cols, m.ld);
      };
      Matrix alone(1, 190), head_alone(1, dim);
      linear(row(x), w.view(), nullptr, Activation::kGelu, false, alone.view(), {});
      bilinear_head(row(x), row(shift), row(gate), w_in.view(), w_out.view(), head_alone.view(),
                    {});
      for (int64_t c = 0; c < 190; ++c) ASSERT_EQ(together.at(r, c), alone.at(0, c));
      for (int64_t c = 0; c < dim; ++c) ASSERT_EQ(head.at(r, c), head_alone.at(0, c));
    }
  });
}

TEST(LayerNorm, AgreesWithTheReference) {
  for (const int64_t cols : {1, 5, 16, 64, 101}) {
    Matrix x = random_matrix(1, 19, cols, 2, 3.0F);
    for (int64_t c = 0; c < cols; ++c) x.at(4, c) += 50.0F;  // far from zero
    for (int64_t c = 0; c < cols; ++c) x.at(7, c) = 2.0F;    // no variance: eps decides
    const Matrix gamma = random_matrix(2, 1, cols), beta = random_matrix(3, 1, cols);
    Matrix out(19, cols, 1);
    layer_norm(x.view(), gamma.data.data(), beta.data.data(), 1e-5F, out.view(), {.threads = 2});
    const Doubles expected = reference_layer_norm(x, gamma, beta, 1e-5F);
    expect_near(out, expected, 1e-5);
    layer_norm(x.view(), gamma.data.data(), beta.data.data(), 1e-5F, x.view(), {});  // in place
    expect_near(x, expected, 1e-5);
  }
}

TEST(L2Normalize, AgreesWithTheReference) {
  for (const int64_t cols : {1, 8, 65}) {
    Matrix x = random_matrix(1, 12, cols, 2);
    for (int64_t c = 0; c < cols; ++c) {
      x.at(3, c) = 0.0F;     // stays zero
      x.at(4, c) *= 1e30F;   // the squares overflow a float
      x.at(5, c) *= 1e-25F;  // the squares vanish in a float; eps decides
    }
    const Doubles expected = reference_l2_normalize(x, 1e-12F);
    Matrix out(12, cols);
    l2_normalize(x.view(), 1e-12F, out.view(), {.threads = 2});
    expect_near(out, expected, 2e-7);
    EXPECT_EQ(out.at(3, 0), 0.0F);
    l2_normalize(x.view(), 1e-12F, x.view(), {});
    expect_near(x, expected, 2e-7);
  }
}

TEST(BilinearHead, AgreesWithTheReference) {
  for (const int64_t dim : {1, 16, 50}) {
    for (const int64_t rank : {0, 1, 8, 19}) {
      Matrix state = random_matrix(1, 21, dim, 1);
      const Matrix shift = random_matrix(2, 21, dim), gate = random_matrix(3, 21, rank, 3);
      const Matrix w_in = random_matrix(4, rank, dim), w_out = random_matrix(5, dim, rank);
      const Doubles expected = reference_bilinear_head(state, shift, gate, w_in, w_out);
      Matrix query(21, dim);
      bilinear_head(state.view(), shift.view(), gate.view(), w_in.view(), w_out.view(),
                    query.view(), {.threads = 2});
      expect_near(query, expected);
      bilinear_head(state.view(), shift.view(), gate.view(), w_in.view(), w_out.view(),
                    state.view(), {});  // in place
      expect_near(state, expected);
    }
  }
}

TEST(PiecewiseLinear, EncodesByBins) {
  const std::vector<float> edges = {-1.0F, 0.0F, 2.0F, 10.0F};
  const std::vector<std::pair<float, std::vector<float>>> cases = {
      {-5.0F, {0.0F, 0.0F, 0.0F}}, {-1.0F, {0.0F, 0.0F, 0.0F}}, {-0.25F, {0.75F, 0.0F, 0.0F}},
      {0.0F, {1.0F, 0.0F, 0.0F}},  {0.5F, {1.0F, 0.25F, 0.0F}}, {2.0F, {1.0F, 1.0F, 0.0F}},
      {6.0F, {1.0F, 1.0F, 0.5F}},  {10.0F, {1.0F, 1.0F, 1.0F}}, {1e30F, {1.0F, 1.0F, 1.0F}},
      {kInf, {1.0F, 1.0F, 1.0F}},  {-kInf, {0.0F, 0.0F, 0.0F}}, {kNaN, {0.0F, 0.0F, 0.0F}},
  };
  for (const auto& [x, expected] : cases) {
    Matrix out(1, 3);
    piecewise_linear(&x, edges.data(), 4, out.view(), {});
    EXPECT_EQ(out.data, expected) << x;
  }
}

TEST(PiecewiseLinear, EncodesManyRows) {
  const Matrix x = random_matrix(1, 1, 500);
  const std::vector<float> edges = {-1.5F, -0.5F, 0.25F, 1.0F, 3.0F};
  Matrix out(500, 4, 3);
  piecewise_linear(x.data.data(), edges.data(), 5, out.view(), {.threads = 2});
  Doubles expected;
  for (int64_t r = 0; r < 500; ++r) {
    for (int e = 0; e < 4; ++e) {
      const double width = edges[e + 1] - edges[e];
      expected.push_back(std::clamp((x.at(0, r) - edges[e]) / width, 0.0, 1.0));
    }
  }
  expect_near(out, expected, 1e-7);
}

template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kArgument);
    return error.what();
  }
  return "no error";
}

TEST(DenseError, NamesShapes) {
  Matrix a(2, 3), b(2, 4), c(4, 2), d(3, 2);
  const float x[2] = {};
  EXPECT_EQ(message_of([&] {
              linear(a.view(), b.view(), nullptr, Activation::kNone, false, a.view(), {});
            }),
            "linear: expected weight of shape [2, 3], got [2, 4]; pass the layers of one model.");
  EXPECT_EQ(message_of([&] {
              linear(a.view(), a.view(), nullptr, Activation::kNone, false, a.view(), {});
            }),
            "linear: expected out of shape [2, 2], got [2, 3]; pass the layers of one model.");
  EXPECT_EQ(message_of([&] { layer_norm(a.view(), nullptr, x, 0.0F, a.view(), {}); }),
            "layer_norm: expected gamma with 3 entries, got null; pass the layers of one model.");
  EXPECT_EQ(message_of([&] { layer_norm(a.view(), x, x, 0.0F, b.view(), {}); }),
            "layer_norm: expected out of shape [2, 3], got [2, 4]; pass the layers of one model.");
  EXPECT_EQ(
      message_of([&] { l2_normalize(a.view(), 0.0F, b.view(), {}); }),
      "l2_normalize: expected out of shape [2, 3], got [2, 4]; pass the layers of one model.");
  EXPECT_EQ(message_of([&] {
              bilinear_head(a.view(), a.view(), b.view(), c.view(), d.view(), a.view(), {});
            }),
            "bilinear_head: expected w_in of shape [4, 3], got [4, 2]; pass the layers of one "
            "model.");
  EXPECT_EQ(message_of([&] { piecewise_linear(x, x, 1, a.view(), {}); }),
            "piecewise_linear: expected at least 2 edges, got 1; n bins have n + 1 edges.");
  EXPECT_EQ(message_of([&] { piecewise_linear(x, x, 2, a.view(), {}); }),
            "piecewise_linear: expected out of shape [2, 1], got [2, 3]; pass the layers of one "
            "model.");
}

}  // namespace
}  // namespace hypertower
