// The shape of the two towers: the numbers that the torch module and the torch-free encoder both
// build from. Written into manifest.json.
//
//   item vector    v_i = E[i] + sum_f field_f(item)                              (item tower)
//   state          s   = b + sum_f field_f(user) + sum_h W_h pool_h(history)     (query tower,
//   cacheable) pool_h             = sum_j w_hj v_j / sum_j w_hj,  w_hj = kind weight_j *
//   exp(-decay_h * age rank_j) query          q   = bilinear head(s, context) (at request time)
//   score              = <q, v_i>, both L2-normalised first when `normalize`
// field_f: id features = sum (category) or mean (categories) of table rows; number = linear map of
// the piecewise-linear encoding; vector = linear map. Context fields have `context_dim` numbers
// each, are concatenated and pass h = GELU(W c + b), [shift; gate] = W' h + b'. Age rank 0 is the
// latest event. Histories are cut to the last schema.history_length events.
//
// Tensor names (= LibTorch named_parameters()), F = field width, d = dim:
//   item.id.weight [items, d]       item.<f>.weight [F, d] (table) or [d, F] (linear, no bias)
//   user.<f>.weight likewise        query.bias [d]
//   history.log_decay [H] (decay = exp)   history.mix [H, d, d] (pool_h mix[h]^T, as Linear.weight)
//   context.<f>.weight [F, c] (table) or [c, F] (linear)
//   head.hidden.weight [hidden, c * fields]  head.hidden.bias [hidden]
//   head.out.weight [d + rank, hidden]  head.out.bias [d + rank]  (shift first, then gate)
//   head.w_in [rank, d]   head.w_out [d, rank]
// With Head::kNone the query is the state, and there are no context.* and head.* tensors.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "model/config_tree.h"

namespace hypertower {

enum class Head : uint8_t { kNone, kBilinear };

struct Architecture {
  int64_t dim = 64;
  int64_t context_dim = 16;
  int64_t head_hidden = 64;
  int64_t head_rank = 64;
  int64_t history_pools = 3;
  Head head = Head::kBilinear;  // kNone when the schema has no context features
  bool normalize = true;
  double temperature = 0.1;  // initial; score is divided by it in the loss only

  // [model]: the keys are the names above, head = "bilinear" | "none". Errors (kSchema): unknown
  // keys, values out of range, with file and line.
  static Architecture from_config(const ConfigTree& config);
  static Architecture from_json(const nlohmann::json& j);  // as written by to_json
  nlohmann::json to_json() const;
};

}  // namespace hypertower
