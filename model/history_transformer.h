// Histories read by a causal transformer, without torch: the formulas and tensor names of
// architecture.h. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "model/architecture.h"
#include "model/encoder.h"
#include "model/schema.h"

namespace hypertower {

// Rows of the table of kinds: one for each name in [kinds] and one for all others.
int64_t kind_row(const Schema& schema, const std::string& kind);

// Expected shapes of the transformer's tensors.
std::map<std::string, std::vector<int64_t>> transformer_shapes(const Architecture& architecture,
                                                               const Schema& schema);

// state [rows, t]: on entry the persons, on return the states. One history per row, of rows of
// item_vectors [N, dim]. The bits of a row depend on its own person and history alone. Errors
// (kArgument): an item beyond the matrix, more than schema.history_length events.
void transform_histories(const Architecture& architecture, const Weights& weights,
                         const HistoryBatch& history, MatrixView<const float> item_vectors,
                         MatrixView<float> state, const Exec& exec);

}  // namespace hypertower
