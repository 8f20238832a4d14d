// Embedding bags: gather rows of a table and reduce them per bag; backward with the optimizer
// fused, so no gradient of table size exists.
//
// Forward:  out[b] = sum over e in bag b of w_e * table[id_e]          (Pool::kSum)
//           out[b] = the same / number of ids in bag b                 (Pool::kMean)
// w_e = 1 when `weights` is null. An empty bag gives zeros in both modes. A bad id (outside
// [0, rows)) contributes nothing and is reported; it still counts in the length of its bag.
// Backward: row gradient g_r = sum over all e with id_e = r of scale_e * grad_out[bag(e)], then one
// optimizer step for each touched row.
//
// All sums in float, in pieces of 256 ids in the order of e, the sums of pieces in order again: the
// same bits on every run and for any number of threads of one kind of machine, and work that is cut
// by ids, so that neither one bag nor one row holds up the rest. Memory: the plan (<= 24 bytes per
// id on the CPU) and D / 64 bytes per id of bags or rows with more than 4,096 (on CUDA D / 32 bytes
// per id of every lookup); no table-sized or n x D scratch. Thread-safe for distinct outputs; a
// table must not be read while `embedding_backward` updates it.
//
// Tables hold float32, bfloat16, float16 or int8 rows (kernels/embedding_table.h); sums, gradients
// and optimizer state are float. Rows of 16 bits are trained with stochastic rounding
// (kernels/stochastic_rounding.h) by OptimizerStep::seed and step; int8 rows are not trained.
//
// Errors (ErrorKind::kArgument): shapes that do not fit, broken offsets (first not 0, decreasing,
// last not n; always an error), a bad id under BadIds::kThrow, 2^31 ids or more in one lookup, a
// step on int8 rows, two steps on one table in one call, a step whose gradient holds NaN or
// infinity (named: feature, bag, column). Nothing is written then.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/embedding_table.h"
#include "kernels/tensor.h"

namespace hypertower {

enum class Pool : uint8_t { kSum, kMean };

// What to do with an id outside the table.
enum class BadIds : uint8_t {
  kThrow,  // Error naming feature (`Bags::name`), bag, position, id and rows; nothing is written
  kDrop,   // contributes zero, is counted in IdReport
};

struct Bags {
  const int64_t* ids = nullptr;      // [n]
  const int64_t* offsets = nullptr;  // [bags + 1], first 0, last n; may be null without bags
  const float* weights = nullptr;    // [n] or null
  int64_t n = 0;
  int64_t bags = 0;
  const char* name = "";  // of the feature, for messages; host string
};

struct IdReport {
  int64_t dropped = 0;          // ids that contributed nothing
  int64_t first_bag = -1;       // place of the first one
  int64_t first_position = -1;  // index into Bags::ids
  int64_t first_id = 0;
};

// out [bags, D], D = table.cols. Synchronises the stream on CUDA (to report ids).
IdReport embedding_bag(ConstTable table, const Bags& bags, Pool pool, BadIds policy,
                       MatrixView<float> out, const Exec& exec);

// Lookups in several tables as one: work is shared among threads over all of them. Features that
// share a table are one lookup, their bags one after the other.
struct TableLookup {
  ConstTable table;
  Bags bags;
  Pool pool = Pool::kSum;
  MatrixView<float> out;
};
std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec);

// What a plan is made from.
struct PlanInput {
  int64_t table_rows = 0;
  Bags bags;
};

// The plan groups the ids of one lookup by row: runs of equal row, rows ascending, ids of a run in
// the order of the lookup. It needs ids only, so it may be built while the forward pass runs, and
// the ids may change afterwards. Owns its memory on the device of `exec`; on CUDA the constructor
// synchronises the stream (the number of runs decides how much memory is needed), and the stream
// must outlive the plan. Immutable after construction; shareable between threads.
class EmbeddingPlan {
 public:
  EmbeddingPlan(int64_t table_rows, const Bags& bags, BadIds policy, const Exec& exec);
  ~EmbeddingPlan();
  EmbeddingPlan(EmbeddingPlan&&) noexcept;
  EmbeddingPlan& operator=(EmbeddingPlan&&) noexcept;

  // Several plans, made side by side; on CUDA two synchronisations for all of them.
  static std::vector<EmbeddingPlan> make(std::span<const PlanInput> inputs, BadIds policy,
                                         const Exec& exec);

  int64_t unique_rows() const;  // number of runs
  const int64_t* rows() const;  // [unique_rows], ascending table rows; device memory
  const IdReport& report() const;

  struct Data;  // layout shared by the CPU and CUDA implementations: kernels/embedding_backend.h
  const Data& data() const { return *data_; }

 private:
  explicit EmbeddingPlan(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

enum class Optimizer : uint8_t {
  kSgd,             // w -= lr * g                                                  no state
  kRowWiseAdagrad,  // G += mean(g^2); w -= lr * g / (sqrt(G) + eps)      state0 [rows, 1]
  kAdagrad,         // G += g^2; w -= lr * g / (sqrt(G) + eps)            state0 [rows, D]
  kAdam,            // lazy: moments of untouched rows stand still; bias correction by `step`
                    //                                       state0, state1 [rows, D]
};

// Floats of optimizer state per row: of state0 and of state1.
constexpr int64_t state0_cols(Optimizer kind, int64_t dim) {
  return kind == Optimizer::kSgd ? 0 : kind == Optimizer::kRowWiseAdagrad ? 1 : dim;
}
constexpr int64_t state1_cols(Optimizer kind, int64_t dim) {
  return kind == Optimizer::kAdam ? dim : 0;
}

struct OptimizerStep {
  Optimizer kind = Optimizer::kRowWiseAdagrad;
  float lr = 0.01F;
  float eps = 1e-8F;
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float weight_decay = 0.0F;  // decoupled, on touched rows: w -= lr * weight_decay * w first
  int64_t step = 1;           // 1-based; for kAdam and for rows of 16 bits
  uint64_t seed = 0;          // of stochastic rounding
};

// One fused step. `grad` [bags, D] is the gradient of `out`. `bags` must be the plan's: its offsets
// and weights are read, its ids are not. state0 / state1 as the optimizer says, else ignored.
// Synchronises the stream on CUDA (to report a gradient that is not finite), and so does
// apply_row_gradient.
void embedding_backward(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const EmbeddingPlan& plan, const Bags& bags, Pool pool,
                        MatrixView<const float> grad, const OptimizerStep& step, const Exec& exec);

// Steps of several tables as one.
struct TableUpdate {
  Table table;
  MatrixView<float> state0;
  MatrixView<float> state1;
  const EmbeddingPlan* plan = nullptr;
  Bags bags;
  Pool pool = Pool::kSum;
  MatrixView<const float> grad;
  OptimizerStep step;
};
void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec);

// The unfused form, for tests and other optimizers: row_grad [plan.unique_rows(), D].
void embedding_row_gradient(const EmbeddingPlan& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec);

// Gradient of the per-sample weights: out[e] = <grad[bag(e)], table[id_e]> (* 1/len for kMean), 0
// where the id is bad. `bags.weights` is not read. Must run before embedding_backward changes the
// table. Synchronises the stream on CUDA (to report broken offsets).
void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec);

// One dense step of the same rules on given rows: table[rows[i]] with gradient row_grad[i].
// REQUIRES: rows distinct and inside the table. Lets a caller that has summed gradients itself use
// the same update.
void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec);

}  // namespace hypertower
