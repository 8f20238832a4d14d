// The transformer that reads histories, as a differentiable torch function; reads like
// model/history_transformer.h, whose formulas and tensor names it shares (architecture.h).
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/architecture.h"
#include "model/schema.h"
#include "trainer/inputs.h"

namespace hypertower {

class HistoryTransformer {
 public:
  // Registers a parameter under its dotted name and returns it.
  using AddParameter = std::function<at::Tensor(const std::string&, const at::Tensor& start)>;

  // `dropout`: elementwise, on the tokens and on what each layer adds. Draws from `generator`.
  HistoryTransformer(const Architecture& architecture, const Schema& schema, double dropout,
                     const at::Generator& generator, at::Device device, const AddParameter& add);

  // States [tokens, t] after the tokens asked for. Of history r the tokens are numbered from
  // history.offsets[r] + r on: its person first, then its events. persons [R, t]; directions [N, t]
  // are the items' without their bias.
  at::Tensor states(const at::Tensor& persons, const HistoryInput& history,
                    const at::Tensor& directions, std::span<const int64_t> tokens, bool training);

 private:
  struct Affine {
    at::Tensor weight, bias;
  };
  struct Layer {
    Affine attention_norm, qkv, out, feed_norm, feed, back;
  };
  // Where packed tokens lie in a rectangle of histories of one length.
  struct Packing {
    int64_t histories = 0;
    int64_t longest = 0;  // tokens
    at::Tensor place;     // [tokens] int64: of each in the rectangle
  };

  at::Tensor dropped(const at::Tensor& x, bool training);
  at::Tensor tokens_of(const at::Tensor& persons, const HistoryInput& history,
                       const at::Tensor& directions, Packing& packing) const;
  at::Tensor attend(const at::Tensor& qkv, const Packing& packing) const;

  Architecture architecture_;
  double dropout_;
  at::Generator generator_;
  at::Device device_;
  at::Tensor place_, kind_;
  std::vector<Layer> layers_;
  Affine norm_;
};

}  // namespace hypertower
