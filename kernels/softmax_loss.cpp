#include "kernels/softmax_loss.h"

#include <cmath>
#include <string>

#include "kernels/dispatch.h"
#include "kernels/error.h"
#include "kernels/softmax_loss_backend.h"

namespace hypertower {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorKind::kArgument, "softmax_loss: " + message);
}

template <class T>
void check_matrix(const char* what, MatrixView<T> m, int64_t rows, int64_t cols) {
  if (m.rows != rows || m.cols != cols || m.ld < m.cols) {
    fail(std::string("expected ") + what + " of " + std::to_string(rows) + " x " +
         std::to_string(cols) + ", got " + std::to_string(m.rows) + " x " + std::to_string(m.cols) +
         " with row stride " + std::to_string(m.ld) + ".");
  }
  if (m.data == nullptr && rows > 0 && cols > 0) {
    fail(std::string(what) + " has no memory (null pointer).");
  }
}

void check_input(const SoftmaxLossInput& in) {
  const int64_t rows = in.queries.rows;
  check_matrix("queries", in.queries, rows, in.queries.cols);
  check_matrix("columns", in.columns, in.columns.rows, in.queries.cols);
  if (rows < 0 || in.columns.rows < 0 || in.queries.cols < 1) {
    fail("expected queries [B, D] and columns [C, D] with D >= 1, got D = " +
         std::to_string(in.queries.cols) + ".");
  }
  if (!(in.scale > 0.0F) || !std::isfinite(in.scale)) {
    fail("expected a finite scale (1 / temperature) above 0, got " + std::to_string(in.scale) +
         ".");
  }
  if (rows > 0 && in.target == nullptr) fail("target is null; every row needs its column.");
  if (in.column_user != nullptr && in.row_user == nullptr && rows > 0) {
    fail("column_user masks the positives of row_user, which is null.");
  }
  if (in.row_exclude.offsets != nullptr) {
    if (in.column_item == nullptr) fail("row_exclude lists items, but column_item is null.");
    if (in.row_exclude.rows != rows) {
      fail("expected row_exclude with " + std::to_string(rows) + " rows, got " +
           std::to_string(in.row_exclude.rows) + ".");
    }
  }
}

void check_vector(const char* what, const void* data, int64_t size) {
  if (data == nullptr && size > 0) fail(std::string(what) + " is null.");
}

}  // namespace

void throw_bad_target(int64_t row, int64_t target, int64_t columns) {
  fail("target of row " + std::to_string(row) + " is column " + std::to_string(target) +
       ", expected one of the " + std::to_string(columns) + " columns (0 to " +
       std::to_string(columns - 1) + ").");
}

void throw_bad_exclude(int64_t at, int64_t value) {
  fail("row_exclude.offsets[" + std::to_string(at) + "] is " + std::to_string(value) +
       "; offsets start at 0 and never decrease.");
}

void throw_unsorted_exclude(int64_t row) {
  fail("the items that row_exclude lists for row " + std::to_string(row) +
       " are not in ascending order; sort them.");
}

void throw_bad_loss(int64_t row, float loss, const float* query, int64_t dim) {
  // Whether a NaN has a sign depends on the device.
  const std::string value = std::isnan(loss) ? "nan" : std::to_string(loss);
  std::string why = "a column that it meets is not finite, or a logit is beyond float";
  for (int64_t j = 0; j < dim; ++j) {
    if (!std::isfinite(query[j])) {
      why = "its query holds " + std::to_string(query[j]) + " at dimension " + std::to_string(j);
      break;
    }
  }
  throw Error(ErrorKind::kNumeric,
              "softmax_loss: the loss of row " + std::to_string(row) + " is " + value + ": " + why +
                  "; check the inputs of that row, or lower the learning rate or the scale.");
}

void softmax_loss_forward(const SoftmaxLossInput& in, float* loss, float* log_z, const Exec& exec) {
  check_input(in);
  check_vector("loss", loss, in.queries.rows);
  check_vector("log_z", log_z, in.queries.rows);
  if (exec.device == DeviceType::kCpu) return cpu::softmax_loss_forward(in, loss, log_z, exec);
  if constexpr (kWithCuda) return cuda::softmax_loss_forward(in, loss, log_z, exec);
  throw_no_cuda("softmax_loss_forward");
}

void softmax_loss_backward(const SoftmaxLossInput& in, const float* log_z, const float* grad_loss,
                           MatrixView<float> d_query, MatrixView<float> d_column, double* d_scale,
                           const Exec& exec) {
  check_input(in);
  check_vector("log_z", log_z, in.queries.rows);
  check_vector("grad_loss", grad_loss, in.queries.rows);
  check_matrix("d_query", d_query, in.queries.rows, in.queries.cols);
  check_matrix("d_column", d_column, in.columns.rows, in.queries.cols);
  if (exec.device == DeviceType::kCpu) {
    return cpu::softmax_loss_backward(in, log_z, grad_loss, d_query, d_column, d_scale, exec);
  }
  if constexpr (kWithCuda) {
    return cuda::softmax_loss_backward(in, log_z, grad_loss, d_query, d_column, d_scale, exec);
  }
  throw_no_cuda("softmax_loss_backward");
}

}  // namespace hypertower
