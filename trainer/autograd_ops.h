// Our kernels as differentiable torch functions: the only place where at::Tensor meets MatrixView.
// Tensors are float (ids int64), contiguous where it matters is made so here, and all on one
// device, which picks the CPU or CUDA kernel. Gradients are those of the kernels' headers; tests
// hold them against finite differences. Everything here runs on the calling thread's current
// stream.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/embedding.h"
#include "kernels/tensor.h"

namespace hypertower {

// Where the kernels run for tensors like this one: its device, torch's threads or current stream.
Exec exec_for(const at::Tensor& tensor);

// An embedding table and the optimizer that its backward pass applies at once (no gradient of table
// size exists). `step` is read when the backward pass runs, which counts it on.
struct FusedTable {
  at::Tensor weight;  // [rows, D]; shared with the module that registered it, requires no gradient
  at::Tensor state0,
      state1;  // [rows, as the optimizer says], from zero; undefined where it has none
  OptimizerStep step;
  std::string name;  // of the parameter, for messages

  FusedTable(std::string parameter_name, at::Tensor table_weight, Optimizer optimizer);
};

// Jagged ids. The plan groups them by row for the backward pass; it may be made once and kept for
// bags that do not change.
struct IdBags {
  at::Tensor ids;                             // [n] int64
  at::Tensor offsets;                         // [bags + 1] int64
  std::shared_ptr<const EmbeddingPlan> plan;  // null: made when needed

  int64_t bags() const { return offsets.size(0) - 1; }
};

IdBags make_bags(const at::Tensor& ids, const at::Tensor& offsets);
// `weights` [n] for bags that will be pooled with weights; their values may change afterwards.
std::shared_ptr<const EmbeddingPlan> make_plan(const IdBags& bags, int64_t table_rows,
                                               const at::Tensor& weights = {});

// [bags, D]: means of table rows. Backward updates the table by its optimizer, fused.
at::Tensor lookup(const std::shared_ptr<FusedTable>& table, const IdBags& bags);

// [bags, D]: weighted sums of rows of `matrix` [R, D], differentiable in matrix and weights [n].
// bags.plan, when given, must be of R rows and made with weights.
at::Tensor weighted_pool(const at::Tensor& matrix, const at::Tensor& weights, const IdBags& bags);

// Columns of a softmax loss; see kernels/softmax_loss.h.
struct SoftmaxColumns {
  at::Tensor target;           // [B] int64: index of each row's positive column
  at::Tensor logq;             // [C] float or undefined
  at::Tensor row_weight;       // [B] float or undefined
  at::Tensor column_item;      // [C] int64: needed with exclusions
  at::Tensor exclude;          // items per row, ascending; or undefined
  at::Tensor exclude_offsets;  // [B + 1] int64
};

// [B] losses, differentiable in queries [B, D] and columns [C, D]; logits are never stored.
at::Tensor softmax_loss(const at::Tensor& queries, const at::Tensor& columns,
                        const SoftmaxColumns& what);

}  // namespace hypertower
