// The CUDA dense layers against the reference in double, through the op, on the emulator or a GPU.
#include "kernels/dense.h"

#include <limits>

#include "tests/cuemu/device_array.h"
#include "tests/kernels/dense_reference.h"

namespace hypertower {
namespace {

using namespace testing;

constexpr Exec kExec{.device = DeviceType::kCuda};

// A matrix of the host and its copy on the device.
class DeviceMatrix {
 public:
  explicit DeviceMatrix(const Matrix& m) : host_(m), device_(m.data) {}
  MatrixView<float> view() const { return {device_.data(), host_.rows, host_.cols, host_.ld}; }
  float* data() const { return device_.data(); }
  Matrix to_host() const {
    Matrix m = host_;
    m.data = device_.to_host();
    return m;
  }

 private:
  Matrix host_;
  DeviceArray<float> device_;
};

TEST(CudaLinear, AgreesWithTheReference) {
  struct Shape {
    int64_t rows, in, out;
  };
  for (const auto& [rows, in, out_cols] :
       {Shape{1, 1, 1}, {3, 7, 4}, {17, 16, 31}, {65, 33, 70}, {130, 20, 5}}) {
    const Matrix x = random_matrix(1, rows, in, 3), w = random_matrix(2, out_cols, in, 2);
    const Matrix bias = random_matrix(3, 1, out_cols);
    const DeviceMatrix device_x(x), device_w(w), device_bias(bias);
    for (const auto act : {Activation::kNone, Activation::kRelu, Activation::kGelu}) {
      const DeviceMatrix out(Matrix(rows, out_cols, 5));
      linear(device_x.view(), device_w.view(), device_bias.data(), act, false, out.view(), kExec);
      expect_near(out.to_host(), reference_linear(x, w, bias.data.data(), act));
    }
  }
}

TEST(CudaLinear, AccumulatesAfterTheActivation) {
  const Matrix x = random_matrix(1, 3, 10), w = random_matrix(2, 4, 10);
  Matrix start(3, 4);
  std::fill(start.data.begin(), start.data.end(), -100.0F);
  const DeviceMatrix out(start);
  linear(DeviceMatrix(x).view(), DeviceMatrix(w).view(), nullptr, Activation::kRelu, true,
         out.view(), kExec);
  Doubles expected = reference_linear(x, w, nullptr, Activation::kRelu);
  for (double& e : expected) e -= 100.0;
  expect_near(out.to_host(), expected);
}

TEST(CudaLinear, ARowDoesNotDependOnItsBatch) {
  const Matrix x = random_matrix(1, 70, 50), w = random_matrix(2, 9, 50);
  const DeviceMatrix device_x(x), device_w(w), out(Matrix(70, 9));
  linear(device_x.view(), device_w.view(), nullptr, Activation::kNone, false, out.view(), kExec);
  const Matrix together = out.to_host();
  for (const int64_t r : {0, 5, 63, 64, 69}) {
    const DeviceMatrix alone(Matrix(1, 9));
    linear({device_x.data() + r * 50, 1, 50}, device_w.view(), nullptr, Activation::kNone, false,
           alone.view(), kExec);
    const Matrix row = alone.to_host();
    for (int64_t c = 0; c < 9; ++c) EXPECT_EQ(row.at(0, c), together.at(r, c));
  }
}

TEST(CudaLayerNorm, AgreesWithTheReference) {
  for (const int64_t cols : {1, 5, 32, 101}) {
    Matrix x = random_matrix(1, 9, cols, 2, 3.0F);
    for (int64_t c = 0; c < cols; ++c) {
      x.at(4, c) += 50.0F;
      x.at(7, c) = 2.0F;
    }
    const Matrix gamma = random_matrix(2, 1, cols), beta = random_matrix(3, 1, cols);
    const DeviceMatrix device_gamma(gamma), device_beta(beta), device_x(x), out(Matrix(9, cols, 1));
    const Doubles expected = reference_layer_norm(x, gamma, beta, 1e-5F);
    layer_norm(device_x.view(), device_gamma.data(), device_beta.data(), 1e-5F, out.view(), kExec);
    expect_near(out.to_host(), expected, 1e-5);
    layer_norm(device_x.view(), device_gamma.data(), device_beta.data(), 1e-5F, device_x.view(),
               kExec);  // in place
    expect_near(device_x.to_host(), expected, 1e-5);
  }
}

TEST(CudaL2Normalize, AgreesWithTheReference) {
  for (const int64_t cols : {1, 8, 65}) {
    Matrix x = random_matrix(1, 6, cols, 2);
    for (int64_t c = 0; c < cols; ++c) {
      x.at(3, c) = 0.0F;
      x.at(4, c) *= 1e30F;
      x.at(5, c) *= 1e-25F;
    }
    const DeviceMatrix device_x(x);
    l2_normalize(device_x.view(), 1e-12F, device_x.view(), kExec);
    expect_near(device_x.to_host(), reference_l2_normalize(x, 1e-12F), 2e-7);
  }
}

TEST(CudaBilinearHead, AgreesWithTheReference) {
  for (const int64_t rank : {0, 1, 19}) {
    const Matrix state = random_matrix(1, 21, 50, 1), shift = random_matrix(2, 21, 50);
    const Matrix gate = random_matrix(3, 21, rank, 3), w_in = random_matrix(4, rank, 50);
    const Matrix w_out = random_matrix(5, 50, rank);
    const DeviceMatrix device_state(state), device_shift(shift), device_gate(gate);
    const DeviceMatrix device_in(w_in), device_out(w_out), query(Matrix(21, 50));
    const Doubles expected = reference_bilinear_head(state, shift, gate, w_in, w_out);
    bilinear_head(device_state.view(), device_shift.view(), device_gate.view(), device_in.view(),
                  device_out.view(), query.view(), kExec);
    expect_near(query.to_host(), expected);
    bilinear_head(device_state.view(), device_shift.view(), device_gate.view(), device_in.view(),
                  device_out.view(), device_state.view(), kExec);  // in place
    expect_near(device_state.to_host(), expected);
  }
}

TEST(CudaPiecewiseLinear, HasTheBitsOfTheCpu) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<float> x = {-5, -1, -0.25, 0, 0.5, 2, 6, 10, 1e30F, kInf, -kInf, std::nanf("")};
  for (int i = 0; i < 200; ++i) x.push_back(0.07F * static_cast<float>(i) - 2.0F);
  const std::vector<float> edges = {-1.0F, 0.0F, 2.0F, 10.0F};
  const auto rows = static_cast<int64_t>(x.size());
  Matrix expected(rows, 3);
  piecewise_linear(x.data(), edges.data(), 4, expected.view(), {});
  const DeviceMatrix out(Matrix(rows, 3));
  piecewise_linear(DeviceArray<float>(x).data(), DeviceArray<float>(edges).data(), 4, out.view(),
                   kExec);
  EXPECT_EQ(out.to_host().data, expected.data);
}

TEST(CudaDense, TakesNoRows) {
  const DeviceMatrix none(Matrix(0, 4)), weight(random_matrix(1, 4, 4));
  linear(none.view(), weight.view(), nullptr, Activation::kNone, false, none.view(), kExec);
  layer_norm(none.view(), weight.data(), weight.data(), 1e-5F, none.view(), kExec);
  l2_normalize(none.view(), 1e-5F, none.view(), kExec);
  bilinear_head(none.view(), none.view(), none.view(), weight.view(), weight.view(), none.view(),
                kExec);
  piecewise_linear(nullptr, weight.data(), 5, none.view(), kExec);
}

}  // namespace
}  // namespace hypertower
