#include "kernels/embedding.h"

#include <utility>

#include "kernels/dispatch.h"
#include "kernels/embedding_backend.h"
#include "kernels/error.h"

namespace hypertower {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorKind::kArgument, message);
}

template <class T>
std::string shape(MatrixView<T> m) {
  return std::to_string(m.rows) + " x " + std::to_string(m.cols);
}

// `what` must be a readable matrix of exactly rows x cols.
template <class T>
void check_matrix(const char* op, const char* what, MatrixView<T> m, int64_t rows, int64_t cols) {
  if (m.rows != rows || m.cols != cols || m.ld < m.cols) {
    fail(std::string(op) + ": expected " + what + " of " + std::to_string(rows) + " x " +
         std::to_string(cols) + ", got " + shape(m) + " with row stride " + std::to_string(m.ld) +
         ".");
  }
  if (m.data == nullptr && rows * cols > 0) {
    fail(std::string(op) + ": " + what + " of " + shape(m) + " has no memory (null pointer).");
  }
}

template <class T>
void check_table(const char* op, MatrixView<T> table) {
  if (table.rows < 0 || table.cols < 1) {
    fail(std::string(op) + ": expected a table with at least one column, got " + shape(table) +
         ".");
  }
  check_matrix(op, "a table", table, table.rows, table.cols);
}

void check_bags_shape(const Bags& bags) {
  if (bags.n < 0 || bags.bags < 0) {
    fail(bags_label(bags) + "expected n >= 0 and bags >= 0, got n = " + std::to_string(bags.n) +
         ", bags = " + std::to_string(bags.bags) + ".");
  }
  if (bags.n > kMaxBagIds || bags.bags > kMaxBagIds) {
    fail(bags_label(bags) + "expected fewer than 2^31 ids and bags in one lookup, got n = " +
         std::to_string(bags.n) + ", bags = " + std::to_string(bags.bags) + "; split the batch.");
  }
  if (bags.n > 0 && bags.ids == nullptr) fail(bags_label(bags) + "ids is null but n > 0.");
  if (bags.offsets == nullptr && (bags.bags > 0 || bags.n > 0)) {
    fail(bags_label(bags) + "offsets is null but there are bags or ids.");
  }
}

void check_plan(const char* op, const EmbeddingPlan::Data& plan, const Bags& bags) {
  check_bags_shape(bags);
  if (plan.n != bags.n || plan.bags != bags.bags || plan.weighted != (bags.weights != nullptr)) {
    fail(std::string(op) + ": expected the bags that the plan was built from (" +
         std::to_string(plan.n) + " ids in " + std::to_string(plan.bags) + " bags, " +
         (plan.weighted ? "weighted" : "unweighted") + "), got " + std::to_string(bags.n) +
         " ids in " + std::to_string(bags.bags) + " bags, " +
         (bags.weights != nullptr ? "weighted." : "unweighted."));
  }
}

void check_step(const char* op, MatrixView<float> table, MatrixView<float> state0,
                MatrixView<float> state1, const OptimizerStep& step) {
  if (step.kind == Optimizer::kRowWiseAdagrad) {
    check_matrix(op, "row-wise Adagrad state0", state0, table.rows, 1);
  }
  if (step.kind == Optimizer::kAdam) {
    check_matrix(op, "Adam state0", state0, table.rows, table.cols);
    check_matrix(op, "Adam state1", state1, table.rows, table.cols);
    if (step.step < 1) {
      fail(std::string(op) + ": expected Adam's step to count from 1, got " +
           std::to_string(step.step) + ".");
    }
  }
}

}  // namespace

std::string bags_label(const Bags& bags) {
  if (bags.name == nullptr || *bags.name == '\0') return "embedding bags: ";
  return "feature '" + std::string(bags.name) + "': ";
}

void throw_bad_id(const Bags& bags, const IdReport& report, int64_t table_rows) {
  const std::string valid =
      table_rows > 0 ? "valid: 0 to " + std::to_string(table_rows - 1) : "the table is empty";
  fail(bags_label(bags) + "id " + std::to_string(report.first_id) + " in bag " +
       std::to_string(report.first_bag) + ", position " + std::to_string(report.first_position) +
       " is outside the table of " + std::to_string(table_rows) + " rows (" + valid +
       "); map unknown values to a row of their own.");
}

void throw_bad_offset(const Bags& bags, int64_t at, int64_t value, int64_t previous) {
  const std::string got =
      bags_label(bags) + "offsets[" + std::to_string(at) + "] is " + std::to_string(value);
  if (at == 0 && value != 0) fail(got + ", expected 0.");
  if (value < previous) {
    fail(got + ", below offsets[" + std::to_string(at - 1) + "] = " + std::to_string(previous) +
         "; offsets never decrease.");
  }
  fail(got + ", expected the number of ids, n = " + std::to_string(bags.n) + ".");
}

IdReport embedding_bag(MatrixView<const float> table, const Bags& bags, Pool pool, BadIds policy,
                       MatrixView<float> out, const Exec& exec) {
  check_table("embedding_bag", table);
  check_bags_shape(bags);
  check_matrix("embedding_bag", "out", out, bags.bags, table.cols);
  if (exec.device == DeviceType::kCpu) {
    return cpu::embedding_bag(table, bags, pool, policy, out, exec);
  }
  if constexpr (kWithCuda) return cuda::embedding_bag(table, bags, pool, policy, out, exec);
  throw_no_cuda("embedding_bag");
}

EmbeddingPlan::EmbeddingPlan(int64_t table_rows, const Bags& bags, BadIds policy,
                             const Exec& exec) {
  if (table_rows < 0) {
    fail(bags_label(bags) + "expected table_rows >= 0, got " + std::to_string(table_rows) + ".");
  }
  check_bags_shape(bags);
  if (exec.device == DeviceType::kCpu) {
    data_ = cpu::embedding_plan(table_rows, bags, policy, exec);
  } else if constexpr (kWithCuda) {
    data_ = cuda::embedding_plan(table_rows, bags, policy, exec);
  } else {
    throw_no_cuda("EmbeddingPlan");
  }
}

EmbeddingPlan::~EmbeddingPlan() = default;
EmbeddingPlan::EmbeddingPlan(EmbeddingPlan&&) noexcept = default;
EmbeddingPlan& EmbeddingPlan::operator=(EmbeddingPlan&&) noexcept = default;

int64_t EmbeddingPlan::unique_rows() const {
  return data_->runs;
}
const int64_t* EmbeddingPlan::rows() const {
  return data_->row;
}
const IdReport& EmbeddingPlan::report() const {
  return data_->report;
}

void embedding_backward(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const EmbeddingPlan& plan, const Bags& bags, Pool pool,
                        MatrixView<const float> grad, const OptimizerStep& step, const Exec& exec) {
  constexpr const char* kOp = "embedding_backward";
  check_table(kOp, table);
  check_plan(kOp, plan.data(), bags);
  if (plan.data().table_rows != table.rows) {
    fail(std::string(kOp) + ": expected the table of " + std::to_string(plan.data().table_rows) +
         " rows that the plan was built for, got " + std::to_string(table.rows) + " rows.");
  }
  check_matrix(kOp, "grad", grad, bags.bags, table.cols);
  check_step(kOp, table, state0, state1, step);
  if (exec.device == DeviceType::kCpu) {
    return cpu::embedding_backward(table, state0, state1, plan.data(), bags, pool, grad, step,
                                   exec);
  }
  if constexpr (kWithCuda) {
    return cuda::embedding_backward(table, state0, state1, plan.data(), bags, pool, grad, step,
                                    exec);
  }
  throw_no_cuda(kOp);
}

void embedding_row_gradient(const EmbeddingPlan& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec) {
  constexpr const char* kOp = "embedding_row_gradient";
  check_plan(kOp, plan.data(), bags);
  check_matrix(kOp, "grad", grad, bags.bags, grad.cols);
  check_matrix(kOp, "row_grad", row_grad, plan.unique_rows(), grad.cols);
  if (exec.device == DeviceType::kCpu) {
    return cpu::embedding_row_gradient(plan.data(), bags, pool, grad, row_grad, exec);
  }
  if constexpr (kWithCuda) {
    return cuda::embedding_row_gradient(plan.data(), bags, pool, grad, row_grad, exec);
  }
  throw_no_cuda(kOp);
}

void embedding_weight_gradient(MatrixView<const float> table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec) {
  constexpr const char* kOp = "embedding_weight_gradient";
  check_table(kOp, table);
  check_bags_shape(bags);
  check_matrix(kOp, "grad", grad, bags.bags, table.cols);
  check_matrix(kOp, "out", MatrixView<float>(out, 1, bags.n), 1, bags.n);
  if (exec.device == DeviceType::kCpu) {
    return cpu::embedding_weight_gradient(table, bags, pool, grad, out, exec);
  }
  if constexpr (kWithCuda) {
    return cuda::embedding_weight_gradient(table, bags, pool, grad, out, exec);
  }
  throw_no_cuda(kOp);
}

void apply_row_gradient(MatrixView<float> table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec) {
  constexpr const char* kOp = "apply_row_gradient";
  check_table(kOp, table);
  check_matrix(kOp, "row_grad", row_grad, row_grad.rows, table.cols);
  if (rows == nullptr && row_grad.rows > 0) fail(std::string(kOp) + ": rows is null.");
  check_step(kOp, table, state0, state1, step);
  if (exec.device == DeviceType::kCpu) {
    return cpu::apply_row_gradient(table, state0, state1, rows, row_grad, step, exec);
  }
  if constexpr (kWithCuda) {
    return cuda::apply_row_gradient(table, state0, state1, rows, row_grad, step, exec);
  }
  throw_no_cuda(kOp);
}

}  // namespace hypertower
