#include "kernels/dense.h"

#include <string>

#include "kernels/cpu/dense.h"
#include "kernels/cuda/dense.h"
#include "kernels/dispatch.h"
#include "kernels/error.h"

namespace hypertower {
namespace {

std::string shape(int64_t rows, int64_t cols) {
  return std::string("[")
      .append(std::to_string(rows))
      .append(", ")
      .append(std::to_string(cols))
      .append("]");
}

template <class T>
void expect_shape(const char* op, const char* name, MatrixView<T> m, int64_t rows, int64_t cols) {
  if (m.rows == rows && m.cols == cols) return;
  throw Error(ErrorKind::kArgument,
              std::string(op) + ": expected " + name + " of shape " + shape(rows, cols) + ", got " +
                  shape(m.rows, m.cols) + "; pass the layers of one model.",
              name);
}

void expect_pointer(const char* op, const char* name, const void* pointer, int64_t entries) {
  if (pointer != nullptr || entries == 0) return;
  throw Error(ErrorKind::kArgument,
              std::string(op) + ": expected " + name + " with " + std::to_string(entries) +
                  " entries, got null; pass the layers of one model.",
              name);
}

}  // namespace

void linear(MatrixView<const float> x, MatrixView<const float> weight, const float* bias,
            Activation act, bool accumulate, MatrixView<float> out, const Exec& exec) {
  expect_shape("linear", "weight", weight, weight.rows, x.cols);
  expect_shape("linear", "out", out, x.rows, weight.rows);
  if (exec.device == DeviceType::kCpu) {
    return cpu::linear(x, weight, bias, act, accumulate, out, exec.threads);
  }
  if constexpr (kWithCuda) {
    return cuda::linear(x, weight, bias, act, accumulate, out, exec.stream);
  }
  throw_no_cuda("linear");
}

void layer_norm(MatrixView<const float> x, const float* gamma, const float* beta, float eps,
                MatrixView<float> out, const Exec& exec) {
  expect_shape("layer_norm", "out", out, x.rows, x.cols);
  expect_pointer("layer_norm", "gamma", gamma, x.cols);
  expect_pointer("layer_norm", "beta", beta, x.cols);
  if (exec.device == DeviceType::kCpu) {
    return cpu::layer_norm(x, gamma, beta, eps, out, exec.threads);
  }
  if constexpr (kWithCuda) return cuda::layer_norm(x, gamma, beta, eps, out, exec.stream);
  throw_no_cuda("layer_norm");
}

void l2_normalize(MatrixView<const float> x, float eps, MatrixView<float> out, const Exec& exec) {
  expect_shape("l2_normalize", "out", out, x.rows, x.cols);
  if (exec.device == DeviceType::kCpu) return cpu::l2_normalize(x, eps, out, exec.threads);
  if constexpr (kWithCuda) return cuda::l2_normalize(x, eps, out, exec.stream);
  throw_no_cuda("l2_normalize");
}

void bilinear_head(MatrixView<const float> state, MatrixView<const float> shift,
                   MatrixView<const float> gate, MatrixView<const float> w_in,
                   MatrixView<const float> w_out, MatrixView<float> query, const Exec& exec) {
  expect_shape("bilinear_head", "shift", shift, state.rows, state.cols);
  expect_shape("bilinear_head", "gate", gate, state.rows, gate.cols);
  expect_shape("bilinear_head", "w_in", w_in, gate.cols, state.cols);
  expect_shape("bilinear_head", "w_out", w_out, state.cols, gate.cols);
  expect_shape("bilinear_head", "query", query, state.rows, state.cols);
  if (exec.device == DeviceType::kCpu) {
    return cpu::bilinear_head(state, shift, gate, w_in, w_out, query, exec.threads);
  }
  if constexpr (kWithCuda) {
    return cuda::bilinear_head(state, shift, gate, w_in, w_out, query, exec.stream);
  }
  throw_no_cuda("bilinear_head");
}

void piecewise_linear(const float* x, const float* edges, int64_t num_edges, MatrixView<float> out,
                      const Exec& exec) {
  if (num_edges < 2) {
    throw Error(ErrorKind::kArgument,
                "piecewise_linear: expected at least 2 edges, got " + std::to_string(num_edges) +
                    "; n bins have n + 1 edges.",
                "edges");
  }
  expect_shape("piecewise_linear", "out", out, out.rows, num_edges - 1);
  expect_pointer("piecewise_linear", "edges", edges, num_edges);
  expect_pointer("piecewise_linear", "x", x, out.rows);
  if (exec.device == DeviceType::kCpu) {
    return cpu::piecewise_linear(x, edges, num_edges, out, exec.threads);
  }
  if constexpr (kWithCuda) {
    return cuda::piecewise_linear(x, edges, num_edges, out, exec.stream);
  }
  throw_no_cuda("piecewise_linear");
}

}  // namespace hypertower
