#include "kernels/embedding.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "kernels/dispatch.h"
#include "kernels/embedding_backend.h"
#include "kernels/error.h"
#include "kernels/parallel.h"

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

void check_table(const char* op, const ConstTable& table) {
  const std::string got = std::to_string(table.rows) + " x " + std::to_string(table.cols);
  if (table.rows < 0 || table.cols < 1) {
    fail(std::string(op) + ": expected a table with at least one column, got " + got + ".");
  }
  const int64_t bytes = row_bytes(table.format, table.cols);
  const int64_t alignment = row_alignment(table.format);
  if (table.stride < bytes || table.stride % alignment != 0 ||
      reinterpret_cast<uintptr_t>(table.data) % alignment != 0) {
    fail(std::string(op) + ": expected a table of " + got + " " + row_format_name(table.format) +
         " with rows at least " + std::to_string(bytes) + " bytes apart, all at multiples of " +
         std::to_string(alignment) + " bytes, got a stride of " + std::to_string(table.stride) +
         ".");
  }
  if (table.data == nullptr && table.rows > 0) {
    fail(std::string(op) + ": a table of " + got + " has no memory (null pointer).");
  }
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

void check_step(const char* op, const Table& table, MatrixView<float> state0,
                MatrixView<float> state1, const OptimizerStep& step) {
  if (table.format == RowFormat::kInt8) {
    fail(std::string(op) +
         ": int8 rows are for serving and cannot be trained; train float32, "
         "bfloat16 or float16 rows and encode them afterwards.");
  }
  const char* const names[] = {"SGD", "row-wise Adagrad", "Adagrad", "Adam"};
  const std::string name = names[static_cast<int>(step.kind)];
  if (const int64_t cols = state0_cols(step.kind, table.cols); cols > 0) {
    check_matrix(op, (name + " state0").c_str(), state0, table.rows, cols);
  }
  if (const int64_t cols = state1_cols(step.kind, table.cols); cols > 0) {
    check_matrix(op, (name + " state1").c_str(), state1, table.rows, cols);
  }
  if (step.kind == Optimizer::kAdam && step.step < 1) {
    fail(std::string(op) + ": expected Adam's step to count from 1, got " +
         std::to_string(step.step) + ".");
  }
}

void check_update(const char* op, const TableUpdate& u) {
  check_table(op, u.table);
  if (u.plan == nullptr) fail(std::string(op) + ": plan is null.");
  const EmbeddingPlan::Data& plan = u.plan->data();
  check_plan(op, plan, u.bags);
  if (plan.table_rows != u.table.rows) {
    fail(std::string(op) + ": expected the table of " + std::to_string(plan.table_rows) +
         " rows that the plan was built for, got " + std::to_string(u.table.rows) + " rows.");
  }
  check_matrix(op, "grad", u.grad, u.bags.bags, u.table.cols);
  check_step(op, u.table, u.state0, u.state1, u.step);
}

void check_distinct_tables(const char* op, std::span<const TableUpdate> updates) {
  std::map<const void*, size_t> seen;
  for (size_t i = 0; i < updates.size(); ++i) {
    if (updates[i].table.rows == 0) continue;
    const auto [at, first] = seen.try_emplace(updates[i].table.data, i);
    if (first) continue;
    fail(std::string(op) + ": updates " + std::to_string(at->second) + " and " + std::to_string(i) +
         " are of one table; make one lookup of the bags of features that " + "share a table.");
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

void throw_bad_gradient(const std::string& label, const char* what, int64_t at,
                        std::span<const float> row) {
  const auto bad =
      std::find_if_not(row.begin(), row.end(), [](float x) { return std::isfinite(x); });
  fail(label + "expected a finite gradient, got " +
       (bad == row.end() || std::isnan(*bad) ? "NaN" : "infinity") + " in " + what + " " +
       std::to_string(at) + ", column " + std::to_string(bad - row.begin()) +
       "; nothing has been updated. Lower lr, or look for NaN in the inputs and the loss.");
}

IdReport embedding_bag(ConstTable table, const Bags& bags, Pool pool, BadIds policy,
                       MatrixView<float> out, const Exec& exec) {
  const TableLookup lookup{table, bags, pool, out};
  return embedding_bag({&lookup, 1}, policy, exec)[0];
}

std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec) {
  constexpr const char* kOp = "embedding_bag";
  for (const TableLookup& l : lookups) {
    check_table(kOp, l.table);
    check_bags_shape(l.bags);
    check_matrix(kOp, "out", l.out, l.bags.bags, l.table.cols);
  }
  if (exec.device == DeviceType::kCpu) return cpu::embedding_bag(lookups, policy, exec);
  if constexpr (kWithCuda) return cuda::embedding_bag(lookups, policy, exec);
  throw_no_cuda(kOp);
}

EmbeddingPlan::EmbeddingPlan(std::unique_ptr<Data> data) : data_(std::move(data)) {}

EmbeddingPlan::EmbeddingPlan(int64_t table_rows, const Bags& bags, BadIds policy,
                             const Exec& exec) {
  const PlanInput input{table_rows, bags};
  *this = std::move(make({&input, 1}, policy, exec)[0]);
}

// On the CPU large plans one after the other, each by all threads; small ones next to each other.
std::vector<EmbeddingPlan> EmbeddingPlan::make(std::span<const PlanInput> inputs, BadIds policy,
                                               const Exec& exec) {
  for (const PlanInput& in : inputs) {
    if (in.table_rows < 0) {
      fail(bags_label(in.bags) + "expected table_rows >= 0, got " + std::to_string(in.table_rows) +
           ".");
    }
    check_bags_shape(in.bags);
  }
  std::vector<std::unique_ptr<Data>> made(inputs.size());
  if (exec.device == DeviceType::kCuda) {
    if constexpr (kWithCuda) {
      made = cuda::embedding_plans(inputs, policy, exec);
    } else {
      throw_no_cuda("EmbeddingPlan");
    }
  } else {
    constexpr int64_t kLarge = int64_t{1} << 17;  // ids
    const auto make_one = [&](size_t i, const Exec& where) {
      made[i] = cpu::embedding_plan(inputs[i].table_rows, inputs[i].bags, policy, where);
    };
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs.size() == 1 || inputs[i].bags.n >= kLarge) make_one(i, exec);
    }
    parallel_for(exec.threads, static_cast<int64_t>(inputs.size()), 1, [&](int64_t i, int64_t) {
      if (made[i] == nullptr) make_one(static_cast<size_t>(i), {exec.device, 1, exec.stream});
    });
  }
  std::vector<EmbeddingPlan> plans;
  for (auto& data : made) plans.push_back(EmbeddingPlan(std::move(data)));
  return plans;
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

void embedding_backward(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const EmbeddingPlan& plan, const Bags& bags, Pool pool,
                        MatrixView<const float> grad, const OptimizerStep& step, const Exec& exec) {
  const TableUpdate update{table, state0, state1, &plan, bags, pool, grad, step};
  embedding_backward({&update, 1}, exec);
}

void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec) {
  constexpr const char* kOp = "embedding_backward";
  for (const TableUpdate& u : updates) check_update(kOp, u);
  check_distinct_tables(kOp, updates);
  if (exec.device == DeviceType::kCpu) return cpu::embedding_backward(updates, exec);
  if constexpr (kWithCuda) return cuda::embedding_backward(updates, exec);
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

void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
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

void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
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
