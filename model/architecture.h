// The shape of the two towers: the numbers that the torch module and the torch-free encoder both
// build from. Written into manifest.json. With d = dim, t = width() = d - 1, c = context_dim:
//
//   item tower       u_i = E[i] + sum_f field_f(item)                                      [t]
//                    v_i = [u_i / |u_i|, bias_i]                                           [d]
//   query tower      p   = b + sum_f field_f(user)                                person   [t]
//                    s   = read(p, history): pools, set or transformer             state    [t]
//                    q'  = bilinear head(s, context), linear in s                          [t]
//                    q   = [q' / temperature, 1]                                           [d]
//   score            <q, v_i>, the logit of the softmax that training fits; answers add what
//                    followers.h and habits.h say of the history
//
// Histories, v_j the items of the events, oldest first, n of them:
//   pools            s = p + sum_h W_h pool_h,  pool_h = sum_j w_hj v_j[:t] / sum_j w_hj
//                    w_hj   = kind weight_j * exp(-decay_h * (n - j))
//   set              s = r / |r|,  r = p + sum_j w_j v_j[:t] / sum_j w_j, whatever the order
//                    w_j    = kind weight_j * exp(l_item), l = 0 for items unseen in training
//   transformer      x_0 = p + place_0,  x_j = sqrt(t) v_j[:t] + kind(j) + place_j    tokens
//                    in every layer, causally (x_j sees x_0 ... x_j), pre-norm:
//                    x += W_o attention(W_qkv LN(x)),  x += W_2 GELU(W_1 LN(x))
//                    s = LN(x_n) / |LN(x_n)|     (Kang & McAuley 2018, Vaswani et al. 2017)
//   attention has `history_heads` heads of dim / history_heads numbers each; kind(j) is a row of
//   kinds: 1 + place among the sorted names of [kinds], 0 for others.
//
// field_f: id features = mean of the table's rows; number = linear map of the piecewise-linear
// encoding; vector = linear map. Context fields have c numbers each, are concatenated and pass
// h = GELU(W c + b), [shift; gate] = W' h + b'. An item that training has not seen has no E and the
// smallest bias of all. Histories are cut to the last schema.history_length events. The state does
// not depend on the moment and can be cached.
//
// Tensor names (= LibTorch named_parameters()), F = field width, H = history_pools:
//   item.id.weight [items, t]       item.<f>.weight [F, t] (table) or [t, F] (linear, no bias)
//   item.bias.weight [items, 1]
//   user.<f>.weight likewise        query.bias [t]
//   pools:        history.log_decay [H] (decay = exp)
//                 history.mix [H, t, t] (pool_h mix[h]^T, as Linear.weight)
//   set:          history.log_weight.weight [items, 1] (l)
//   transformer:  history.place.weight [history length + 1, t]
//                 history.kind.weight [kinds + 1, t] (where the schema has [kinds])
//                 history.<l>.{attention,feed}_norm.{weight,bias} [t]
//                 history.<l>.qkv.{weight,bias} [3 dim, t]   history.<l>.out.{weight,bias} [t, dim]
//                 history.<l>.feed.{weight,bias} [4 dim, t]
//                 history.<l>.back.{weight,bias} [t, 4 dim]   history.norm.{weight,bias} [t]
//   context.<f>.weight [F, c] (table) or [c, F] (linear)
//   head.hidden.weight [hidden, c * fields]  head.hidden.bias [hidden]
//   head.out.weight [t + rank, hidden]  head.out.bias [t + rank]  (shift first, then gate)
//   head.w_in [rank, t]   head.w_out [t, rank]
// With Head::kNone q' is the state, and there are no context.* and head.* tensors.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "model/config_tree.h"

namespace hypertower {

enum class Head : uint8_t { kNone, kBilinear };
// kAuto: training chooses by its data; an exported model says which.
enum class HistoryEncoder : uint8_t { kAuto, kPools, kSet, kTransformer };

struct Architecture {
  int64_t dim = 64;  // of query and item vectors, >= 2; the last number carries the item's bias
  int64_t context_dim = 16;
  int64_t head_hidden = 64;
  int64_t head_rank = 64;
  HistoryEncoder history = HistoryEncoder::kAuto;
  int64_t history_pools = 3;
  int64_t history_layers = 2;
  int64_t history_heads = 2;    // divides dim
  Head head = Head::kBilinear;  // kNone when the schema has no context features
  double temperature = 0.1;

  int64_t width() const { return dim - 1; }

  // [model]: the keys are the names above, head = "bilinear" | "none", history = "auto" | "pools" |
  // "set" | "transformer". Errors (kSchema): unknown keys, values out of range, with file and line.
  static Architecture from_config(const ConfigTree& config);
  static Architecture from_json(const nlohmann::json& j);  // as written by to_json; never "auto"
  nlohmann::json to_json() const;
};

}  // namespace hypertower
