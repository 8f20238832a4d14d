// What the device implementations of kernels/embedding.h share: the layout of a plan, the texts of
// the errors, and the functions each device defines. Arguments have passed the shape checks of
// kernels/embedding.cpp; values (ids, offsets) have not.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/embedding.h"

namespace hypertower {

// Pointers into `storage`, which lives on the device.
struct EmbeddingPlan::Data {
  int64_t table_rows = 0;
  int64_t bags = 0;
  int64_t n = 0;  // ids of the lookup, bad ones included
  bool weighted = false;
  int64_t entries = 0;    // good ids
  int64_t runs = 0;       // distinct rows
  bool long_runs = true;  // none of more than kPieceIds entries where false
  IdReport report;

  // Entry: bag in the low 32 bits; in the high 32 bits the position of the id, if weighted, else 0.
  const int64_t* row = nullptr;        // [runs], ascending
  const int32_t* run_start = nullptr;  // [runs + 1], into entry
  const uint64_t* entry = nullptr;     // [entries], by row, then by position
  std::shared_ptr<void> storage;
};

inline constexpr int64_t kMaxBagIds = (int64_t{1} << 31) - 1;

// Long lists of ids are summed in pieces of kPieceIds, the sums of pieces in pieces of as many, and
// so on, each in order: the same sum whoever computes its parts.
inline constexpr int64_t kPieceIds = 256;
inline constexpr int64_t kPieceLevels = 4;  // kPieceIds^kPieceLevels > kMaxBagIds

// "feature 'genres': " or, without a name, "embedding bags: ".
std::string bags_label(const Bags& bags);

// The first bad id, as IdReport names it.
[[noreturn]] void throw_bad_id(const Bags& bags, const IdReport& report, int64_t table_rows);

// offsets[at] = value is not 0 (at = 0), is below its predecessor, or is the last and not n.
[[noreturn]] void throw_bad_offset(const Bags& bags, int64_t at, int64_t value, int64_t previous);

// `row` is the gradient of a bag (or of a row, by its place in what was given) and not finite.
[[noreturn]] void throw_bad_gradient(const std::string& label, const char* what, int64_t at,
                                     std::span<const float> row);

namespace cpu {
std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec);
std::unique_ptr<EmbeddingPlan::Data> embedding_plan(int64_t table_rows, const Bags& bags,
                                                    BadIds policy, const Exec& exec);
void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec);
void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec);
void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec);
void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec);
}  // namespace cpu

namespace cuda {
std::vector<IdReport> embedding_bag(std::span<const TableLookup> lookups, BadIds policy,
                                    const Exec& exec);
std::vector<std::unique_ptr<EmbeddingPlan::Data>> embedding_plans(std::span<const PlanInput> inputs,
                                                                  BadIds policy, const Exec& exec);
void embedding_backward(std::span<const TableUpdate> updates, const Exec& exec);
void embedding_row_gradient(const EmbeddingPlan::Data& plan, const Bags& bags, Pool pool,
                            MatrixView<const float> grad, MatrixView<float> row_grad,
                            const Exec& exec);
void embedding_weight_gradient(ConstTable table, const Bags& bags, Pool pool,
                               MatrixView<const float> grad, float* out, const Exec& exec);
void apply_row_gradient(Table table, MatrixView<float> state0, MatrixView<float> state1,
                        const int64_t* rows, MatrixView<const float> row_grad,
                        const OptimizerStep& step, const Exec& exec);
}  // namespace cuda

}  // namespace hypertower
