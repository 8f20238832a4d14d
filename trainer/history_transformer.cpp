#include "trainer/history_transformer.h"

#include <algorithm>
#include <cmath>

namespace hypertower {
namespace {

constexpr double kPlaceSpread = 0.02;  // times sqrt(t), like the items of a token

at::Tensor normed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::layer_norm(x, {x.size(1)}, weight, bias);
}

}  // namespace

HistoryTransformer::HistoryTransformer(const Architecture& architecture, const Schema& schema,
                                       double dropout, const at::Generator& generator,
                                       at::Device device, const AddParameter& add)
    : architecture_(architecture), dropout_(dropout), generator_(generator), device_(device) {
  const int64_t t = architecture.width();
  const int64_t dim = architecture.dim;
  const double scale = std::sqrt(static_cast<double>(t));
  const auto options = at::device(device);
  const auto norm = [&](const std::string& name) -> Affine {
    return {add(name + ".weight", at::ones({t}, options)),
            add(name + ".bias", at::zeros({t}, options))};
  };
  // Glorot & Bengio 2010.
  const auto affine = [&](const std::string& name, int64_t out, int64_t in, double gain) -> Affine {
    const double bound = gain * std::sqrt(6.0 / static_cast<double>(in + out));
    return {
        add(name + ".weight", at::empty({out, in}, options).uniform_(-bound, bound, generator_)),
        add(name + ".bias", at::zeros({out}, options))};
  };
  const auto places = at::empty({schema.history_length + 1, t}, options);
  place_ = add("history.place.weight", places.normal_(0, kPlaceSpread * scale, generator_));
  if (!schema.kind_weights.empty()) {
    kind_ = add("history.kind.weight",
                at::zeros({static_cast<int64_t>(schema.kind_weights.size()) + 1, t}, options));
  }
  // What all layers add together starts no larger than what one would (Radford et al. 2019).
  const double small = 1 / std::sqrt(2.0 * static_cast<double>(architecture.history_layers));
  for (int64_t l = 0; l < architecture.history_layers; ++l) {
    const std::string prefix = "history." + std::to_string(l) + ".";
    Layer layer;
    layer.attention_norm = norm(prefix + "attention_norm");
    layer.qkv = affine(prefix + "qkv", 3 * dim, t, 1.0);
    layer.out = affine(prefix + "out", t, dim, small);
    layer.feed_norm = norm(prefix + "feed_norm");
    layer.feed = affine(prefix + "feed", 4 * dim, t, 1.0);
    layer.back = affine(prefix + "back", t, 4 * dim, small);
    layers_.push_back(std::move(layer));
  }
  norm_ = norm("history.norm");
}

at::Tensor HistoryTransformer::dropped(const at::Tensor& x, bool training) {
  if (!training || dropout_ <= 0) return x;
  const double keep = 1 - dropout_;
  return x * at::empty_like(x).bernoulli_(keep, generator_).div_(keep);
}

at::Tensor HistoryTransformer::tokens_of(const at::Tensor& persons, const HistoryInput& history,
                                         const at::Tensor& directions, Packing& packing) const {
  packing.histories = static_cast<int64_t>(history.offsets.size()) - 1;
  const int64_t events = history.offsets.back();
  for (size_t r = 0; r + 1 < history.offsets.size(); ++r) {
    packing.longest = std::max(packing.longest, history.offsets[r + 1] - history.offsets[r] + 1);
  }
  std::vector<int64_t> source, position, place;  // of each token
  for (int64_t r = 0; r < packing.histories; ++r) {
    const int64_t first = history.offsets[static_cast<size_t>(r)];
    const int64_t length = history.offsets[static_cast<size_t>(r) + 1] - first + 1;
    for (int64_t p = 0; p < length; ++p) {
      source.push_back(p == 0 ? events + r : first + p - 1);
      position.push_back(p);
      place.push_back(r * packing.longest + p);
    }
  }
  packing.place = to_tensor(place, device_);
  const double scale = std::sqrt(static_cast<double>(architecture_.width()));
  at::Tensor x = directions.index_select(0, history.bags.ids) * scale;
  if (kind_.defined()) x = x + kind_.index_select(0, history.kinds);
  return at::cat({x, persons}, 0).index_select(0, to_tensor(source, device_)) +
         place_.index_select(0, to_tensor(position, device_));
}

at::Tensor HistoryTransformer::attend(const at::Tensor& qkv, const Packing& packing) const {
  const int64_t dim = architecture_.dim;
  const int64_t heads = architecture_.history_heads;
  const int64_t cells = packing.histories * packing.longest;
  const bool full = qkv.size(0) == cells;
  const at::Tensor padded =
      full ? qkv : at::zeros({cells, 3 * dim}, qkv.options()).index_copy(0, packing.place, qkv);
  const auto parts = padded.view({packing.histories, packing.longest, 3, heads, dim / heads})
                         .permute({2, 0, 3, 1, 4})
                         .unbind(0);
  // What fills a row up comes after its tokens, where none of them looks.
  const at::Tensor seen = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0,
                                                           /*is_causal=*/true)
                              .transpose(1, 2)
                              .reshape({cells, dim});
  return full ? seen : seen.index_select(0, packing.place);
}

at::Tensor HistoryTransformer::states(const at::Tensor& persons, const HistoryInput& history,
                                      const at::Tensor& directions, std::span<const int64_t> tokens,
                                      bool training) {
  Packing packing;
  at::Tensor x = dropped(tokens_of(persons, history, directions, packing), training);
  for (const Layer& l : layers_) {
    const at::Tensor heard =
        attend(at::linear(normed(x, l.attention_norm.weight, l.attention_norm.bias), l.qkv.weight,
                          l.qkv.bias),
               packing);
    x = x + dropped(at::linear(heard, l.out.weight, l.out.bias), training);
    const at::Tensor hidden = at::gelu(
        at::linear(normed(x, l.feed_norm.weight, l.feed_norm.bias), l.feed.weight, l.feed.bias));
    x = x + dropped(at::linear(hidden, l.back.weight, l.back.bias), training);
  }
  const at::Tensor asked = x.index_select(0, to_tensor(tokens, device_));
  return torch::nn::functional::normalize(normed(asked, norm_.weight, norm_.bias));
}

}  // namespace hypertower
