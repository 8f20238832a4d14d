// The towers' forward pass on our kernels, without torch. Same formulas and tensor names as the
// trainer's module (architecture.h); a golden test at export and at load holds them together.
// Immutable after construction; every method is thread-safe. Runs on the CPU: an Exec of another
// device is an Error (kArgument).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor.h"
#include "model/architecture.h"
#include "model/features.h"
#include "model/shared_array.h"

namespace hypertower {

// Weights by tensor name.
struct Tensor {
  std::vector<int64_t> shape;
  SharedArray<float> data;
};
using Weights = std::map<std::string, Tensor>;

// Errors (kModel): a tensor missing, left over, not finite, or of another shape than architecture
// and features say, by name. item.id.weight may have any number of rows: the items of training.
void check_weights(const Architecture& architecture, const FeatureSpace& features,
                   const Weights& weights);

// Histories of a batch of requests as rows of the item matrix, oldest first; unknown items are
// already left out and only the latest schema.history_length events kept. Per event its kind's
// weight and row (kind_row).
struct HistoryBatch {
  std::vector<int64_t> items;
  std::vector<float> weights;
  std::vector<int64_t> kinds;
  std::vector<int64_t> offsets{0};
};

class Encoder {
 public:
  // Errors: as check_weights.
  Encoder(Architecture architecture, FeatureSpace features, Weights weights);

  const Architecture& architecture() const { return architecture_; }
  const FeatureSpace& features() const { return features_; }
  const Weights& weights() const { return weights_; }
  int64_t id_rows() const;  // rows of item.id.weight
  int64_t dim() const { return architecture_.dim; }
  int64_t width() const { return architecture_.width(); }

  // out [batch.rows, dim]. id_rows[r] = row of item.id.weight or -1 for an item unknown to training
  // (its vector comes from its features alone).
  void encode_items(const Batch& items, std::span<const int64_t> id_rows, MatrixView<float> out,
                    const Exec& exec) const;
  // The cacheable part: state [rows, width] from item_vectors [N, dim] as exported.
  void encode_state(const Batch& users, const HistoryBatch& history,
                    MatrixView<const float> item_vectors, MatrixView<float> state,
                    const Exec& exec) const;
  // query [rows, dim] from state [rows, width] and context.
  void encode_query(MatrixView<const float> state, const Batch& context, MatrixView<float> query,
                    const Exec& exec) const;

 private:
  const Tensor& tensor(const std::string& name) const;
  // Writes or adds the field's vector of every row to `out`.
  void encode_field(const FittedFeature& feature, const FeatureColumn& column, bool accumulate,
                    MatrixView<float> out, const Exec& exec) const;
  void add_pools(const HistoryBatch& history, MatrixView<const float> item_vectors,
                 MatrixView<float> state, const Exec& exec) const;

  void add_set(const HistoryBatch& history, MatrixView<const float> item_vectors,
               MatrixView<float> state, const Exec& exec) const;

  Architecture architecture_;
  FeatureSpace features_;
  Weights weights_;
  float least_bias_ = 0.0F;  // of an item that training has not seen
};

}  // namespace hypertower
