// The two towers as a torch module; reads like model/architecture.h, whose formulas and tensor
// names it shares. Embedding tables are parameters without a gradient: their own optimizer is fused
// into the backward pass of the lookup (autograd_ops.h). Not thread-safe while training.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/features.h"
#include "trainer/autograd_ops.h"
#include "trainer/dynamic_vocabulary.h"
#include "trainer/history_transformer.h"
#include "trainer/inputs.h"

namespace hypertower {

// Chances that an input is left out in training, so that its absence is normal when serving.
struct Dropout {
  double history = 0.2;  // elementwise, on the pools or in the transformer
  double user = 0.1;     // each user feature
  double context = 0.1;  // each context feature
  double moment = 0.1;   // the whole context
};

class TwoTower : public torch::nn::Module {
 public:
  // `seed` fixes the first weights and the dropout. item.id.weight, item.bias.weight and
  // history.log_weight.weight start at zero: the caller sets them (item_start.h). `features` must
  // outlive the towers.
  TwoTower(const Architecture& architecture, const FeatureSpace& features, int64_t num_items,
           const Dropout& dropout, Optimizer table_optimizer, uint64_t seed, at::Device device);

  // v [n, d]: the direction of each item, then its bias. `id_bags` has one id per item; the
  // features are those of the same items.
  at::Tensor items(const IdBags& id_bags, const GroupInput& features);
  // s [B, t], t = d - 1. `history.bags` holds rows of `item_vectors` [n, d].
  at::Tensor state(const GroupInput& users, const HistoryInput& history,
                   const at::Tensor& item_vectors);
  // Of a transformer, the states [tokens, t] after some of the histories' tokens, which are
  // numbered as in HistoryTransformer::states.
  at::Tensor states_after(const GroupInput& users, const HistoryInput& history,
                          const at::Tensor& item_vectors, std::span<const int64_t> tokens);
  // q [B, d]; <q, v> is the logit.
  at::Tensor query(const at::Tensor& state, const GroupInput& context);

  const Architecture& architecture() const { return architecture_; }
  const std::vector<std::shared_ptr<FusedTable>>& tables() const { return tables_; }
  // By the name of the parameter that holds their rows. Values get rows while is_training().
  const std::map<std::string, std::shared_ptr<DynamicVocabulary>>& vocabularies() const {
    return vocabularies_;
  }
  // Parameters that an ordinary optimizer updates: matrices and the rest (no weight decay).
  std::vector<at::Tensor> dense_matrices() const;
  std::vector<at::Tensor> dense_vectors() const;

 private:
  // One feature's part of a tower: a table or a linear map without bias.
  struct Field {
    std::shared_ptr<FusedTable> table;              // id features
    std::shared_ptr<DynamicVocabulary> vocabulary;  // those that have one
    at::Tensor weight;                              // [out, width] otherwise
    double spread = 0.0;                            // of first weights
  };

  at::Tensor add_parameter(const std::string& dotted_name, const at::Tensor& start, bool gradient);
  std::vector<Field> add_fields(Group group, const FeatureSpace& features, int64_t width,
                                double spread);
  std::shared_ptr<FusedTable> add_table(const std::string& name, const at::Tensor& start);
  void add_pools();
  void add_head(const FeatureSpace& features);

  at::Tensor normal(at::IntArrayRef shape, double spread);
  at::Tensor uniform(at::IntArrayRef shape, double bound);
  // 0 or 1 [rows, 1]; undefined when nothing is dropped.
  at::Tensor keep_mask(int64_t rows, double chance);
  at::Tensor encode(const Field& field, const FieldInput& input);
  at::Tensor persons(const GroupInput& users);  // [B, t]
  at::Tensor pooled(const HistoryInput& history, const at::Tensor& directions);
  at::Tensor weighed(const HistoryInput& history, const at::Tensor& directions);
  // Means of the histories' items; raw [n] weights, not negative.
  at::Tensor mean_items(const HistoryInput& history, const at::Tensor& directions,
                        const IdBags& bags, const at::Tensor& raw) const;
  // Numbers of values -> rows, of which new ones begin anew.
  IdBags rows_of(const Field& field, const IdBags& bags);
  void begin_anew(const Field& field, const std::vector<IdTableChange>& changes);

  Architecture architecture_;
  Dropout dropout_;
  Optimizer table_optimizer_;
  at::Device device_;
  uint64_t seed_;
  at::Generator generator_;
  std::vector<std::shared_ptr<FusedTable>> tables_;
  std::map<std::string, std::shared_ptr<DynamicVocabulary>> vocabularies_;
  int64_t width_;  // t = d - 1
  std::shared_ptr<FusedTable> item_ids_, item_bias_, log_weight_;
  std::vector<Field> item_fields_, user_fields_, context_fields_;
  at::Tensor query_bias_, log_decay_, mix_;
  std::optional<HistoryTransformer> transformer_;
  at::Tensor hidden_weight_, hidden_bias_, out_weight_, out_bias_, w_in_, w_out_;
};

}  // namespace hypertower
