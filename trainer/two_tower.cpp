#include "trainer/two_tower.h"

#include <cmath>

namespace hypertower {
namespace {

constexpr double kFieldSpread = 0.02;  // standard deviations of first weights
constexpr double kContextSpread =
    0.3;                              // context fields start large: the head behind starts at zero
constexpr double kFirstDecay = 0.02;  // the pools' decays: nearly the mean of the history ...
constexpr double kLastDecay = 3.0;    // ... to nearly its last event, geometrically between

bool is_id(const FittedFeature& f) {
  return f.feature.kind == FeatureKind::kCategory || f.feature.kind == FeatureKind::kCategories;
}

// A module that only holds parameters and children, to give them dotted names.
struct Holder : torch::nn::Module {};

at::Generator make_generator(at::Device device, uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

at::Tensor masked(const at::Tensor& x, const at::Tensor& mask) {
  return mask.defined() ? x * mask : x;
}

}  // namespace

TwoTower::TwoTower(const Architecture& architecture, const FeatureSpace& features,
                   int64_t num_items, const Dropout& dropout, Optimizer table_optimizer,
                   uint64_t seed, at::Device device)
    : architecture_(architecture),
      dropout_(dropout),
      table_optimizer_(table_optimizer),
      device_(device),
      seed_(seed),
      generator_(make_generator(device, seed)),
      width_(architecture.dim - 1) {
  const int64_t d = width_;
  item_ids_ = add_table("item.id.weight", at::zeros({num_items, d}));
  item_bias_ = add_table("item.bias.weight", at::zeros({num_items, 1}));
  item_fields_ = add_fields(Group::kItem, features, d, kFieldSpread);
  user_fields_ = add_fields(Group::kUser, features, d, kFieldSpread);
  query_bias_ = add_parameter("query.bias", at::zeros({d}), true);

  if (architecture_.history == HistoryEncoder::kTransformer) {
    transformer_.emplace(architecture_, features.schema(), dropout_.history, generator_, device_,
                         [this](const std::string& name, const at::Tensor& start) {
                           return add_parameter(name, start, true);
                         });
  } else if (architecture_.history == HistoryEncoder::kSet) {
    log_weight_ = add_table("history.log_weight.weight", at::zeros({num_items, 1}));
  } else {
    add_pools();
  }
  if (architecture_.head == Head::kBilinear) add_head(features);
}

void TwoTower::add_pools() {
  const int64_t pools = architecture_.history_pools;
  at::Tensor log_decay = at::empty({pools});
  for (int64_t h = 0; h < pools; ++h) {
    const double t = pools == 1 ? 0.5 : static_cast<double>(h) / static_cast<double>(pools - 1);
    log_decay[h] = (1 - t) * std::log(kFirstDecay) + t * std::log(kLastDecay);
  }
  log_decay_ = add_parameter("history.log_decay", log_decay, true);
  // The first pool starts as the state, the others join in as they learn.
  at::Tensor mix = at::zeros({pools, width_, width_});
  mix[0] = at::eye(width_);
  mix_ = add_parameter("history.mix", mix, true);
}

void TwoTower::add_head(const FeatureSpace& features) {
  const Architecture& a = architecture_;
  context_fields_ = add_fields(Group::kContext, features, a.context_dim, kContextSpread);
  const int64_t width = a.context_dim * static_cast<int64_t>(context_fields_.size());
  const double bound = 1 / std::sqrt(static_cast<double>(width));
  const double inner = 1 / std::sqrt(static_cast<double>(width_));
  hidden_weight_ =
      add_parameter("head.hidden.weight", uniform({a.head_hidden, width}, bound), true);
  hidden_bias_ = add_parameter("head.hidden.bias", uniform({a.head_hidden}, bound), true);
  // Shift and gate start at zero, so the query starts as the state.
  out_weight_ =
      add_parameter("head.out.weight", at::zeros({width_ + a.head_rank, a.head_hidden}), true);
  out_bias_ = add_parameter("head.out.bias", at::zeros({width_ + a.head_rank}), true);
  w_in_ = add_parameter("head.w_in", uniform({a.head_rank, width_}, inner), true);
  w_out_ = add_parameter("head.w_out", uniform({width_, a.head_rank}, inner), true);
}

at::Tensor TwoTower::add_parameter(const std::string& dotted_name, const at::Tensor& start,
                                   bool gradient) {
  torch::nn::Module* owner = this;
  size_t begin = 0;
  for (size_t dot; (dot = dotted_name.find('.', begin)) != std::string::npos; begin = dot + 1) {
    const std::string part = dotted_name.substr(begin, dot - begin);
    const auto children = owner->named_children();
    const auto* child = children.find(part);
    owner = child != nullptr ? child->get()
                             : owner->register_module(part, std::make_shared<Holder>()).get();
  }
  return owner->register_parameter(dotted_name.substr(begin), start.to(device_), gradient);
}

std::shared_ptr<FusedTable> TwoTower::add_table(const std::string& name, const at::Tensor& start) {
  auto table =
      std::make_shared<FusedTable>(name, add_parameter(name, start, false), table_optimizer_);
  tables_.push_back(table);
  return table;
}

std::vector<TwoTower::Field> TwoTower::add_fields(Group group, const FeatureSpace& features,
                                                  int64_t width, double spread) {
  std::vector<Field> fields;
  for (const FittedFeature& f : features.group(group)) {
    const std::string name = std::string(group_word(group)) + "." + f.feature.name + ".weight";
    Field field;
    field.spread = spread;
    if (is_id(f)) {
      if (f.feature.dynamic_rows > 0) {
        field.vocabulary = std::make_shared<DynamicVocabulary>(f);
        vocabularies_[name] = field.vocabulary;
      }
      const int64_t rows = field.vocabulary ? field.vocabulary->table_rows() : f.width();
      field.table = add_table(name, normal({rows, width}, spread));
    } else {
      field.weight = add_parameter(name, normal({width, f.width()}, spread), true);
    }
    fields.push_back(std::move(field));
  }
  return fields;
}

at::Tensor TwoTower::normal(at::IntArrayRef shape, double spread) {
  return at::empty(shape, at::device(device_)).normal_(0, spread, generator_);
}

at::Tensor TwoTower::uniform(at::IntArrayRef shape, double bound) {
  return at::empty(shape, at::device(device_)).uniform_(-bound, bound, generator_);
}

at::Tensor TwoTower::keep_mask(int64_t rows, double chance) {
  if (!is_training() || chance <= 0) return {};
  return at::empty({rows, 1}, at::device(device_)).bernoulli_(1 - chance, generator_);
}

at::Tensor TwoTower::encode(const Field& field, const FieldInput& input) {
  if (!field.table) return at::linear(input.dense, field.weight);
  return lookup(field.table, field.vocabulary ? rows_of(field, input.bags) : input.bags);
}

IdBags TwoTower::rows_of(const Field& field, const IdBags& bags) {
  const std::span<const int64_t> numbers(bags.ids.const_data_ptr<int64_t>(),
                                         static_cast<size_t>(bags.ids.size(0)));
  const int threads = at::get_num_threads();
  std::vector<int64_t> rows;
  if (is_training()) {
    std::vector<IdTableChange> changes;
    rows = field.vocabulary->assign(numbers, &changes, threads);
    begin_anew(field, changes);
  } else {
    rows = field.vocabulary->find(numbers, threads);
  }
  return make_bags(to_tensor(rows, device_), bags.offsets);
}

void TwoTower::begin_anew(const Field& field, const std::vector<IdTableChange>& changes) {
  if (changes.empty()) return;
  const at::NoGradGuard no_grad;
  const int64_t width = field.table->weight.size(1);
  const auto count = static_cast<int64_t>(changes.size());
  std::vector<int64_t> rows;
  at::Tensor first = at::empty({count, width});
  for (const IdTableChange& change : changes) {
    float* row = first.data_ptr<float>() + static_cast<int64_t>(rows.size()) * width;
    initial_row(change.id, seed_, {row, static_cast<size_t>(width)});
    rows.push_back(change.row);
  }
  // Those are uniform within 1 / sqrt(width).
  first.mul_(field.spread * std::sqrt(3.0 * static_cast<double>(width)));
  const at::Tensor index = to_tensor(rows, device_);
  at::Tensor weight = field.table->weight;
  weight.index_copy_(0, index, first.to(device_));
  for (at::Tensor state : {field.table->state0, field.table->state1}) {
    if (state.defined()) state.index_fill_(0, index, 0);
  }
}

at::Tensor TwoTower::items(const IdBags& id_bags, const GroupInput& features) {
  at::Tensor v = lookup(item_ids_, id_bags);
  for (size_t f = 0; f < item_fields_.size(); ++f) {
    v = v + encode(item_fields_[f], features.fields[f]);
  }
  return at::cat({torch::nn::functional::normalize(v), lookup(item_bias_, id_bags)}, 1);
}

at::Tensor TwoTower::persons(const GroupInput& users) {
  at::Tensor p = query_bias_.expand({users.rows, width_});
  for (size_t f = 0; f < user_fields_.size(); ++f) {
    p = p + masked(encode(user_fields_[f], users.fields[f]), keep_mask(users.rows, dropout_.user));
  }
  return p;
}

at::Tensor TwoTower::mean_items(const HistoryInput& history, const at::Tensor& directions,
                                const IdBags& bags, const at::Tensor& raw) const {
  const auto rows = static_cast<int64_t>(history.offsets.size()) - 1;
  const at::Tensor total = at::zeros({rows}, raw.options()).index_add(0, history.row, raw);
  const at::Tensor shares = raw / total.index_select(0, history.row).clamp_min(1e-30);
  return weighted_pool(directions, shares, bags);
}

at::Tensor TwoTower::pooled(const HistoryInput& history, const at::Tensor& directions) {
  IdBags bags = history.bags;
  if (is_training()) bags.plan = make_plan(bags, directions.size(0), history.weights);
  at::Tensor sum;
  for (int64_t h = 0; h < architecture_.history_pools; ++h) {
    const at::Tensor raw = history.weights * at::exp(-at::exp(log_decay_[h]) * history.ages);
    at::Tensor pool = mean_items(history, directions, bags, raw);
    if (is_training() && dropout_.history > 0) {
      const double keep = 1 - dropout_.history;
      pool = pool * at::empty_like(pool).bernoulli_(keep, generator_).div_(keep);
    }
    const at::Tensor term = at::linear(pool, mix_[h]);
    sum = sum.defined() ? sum + term : term;
  }
  return sum;
}

at::Tensor TwoTower::weighed(const HistoryInput& history, const at::Tensor& directions) {
  const IdBags own =
      make_bags(history.items, at::arange(history.items.size(0) + 1, history.items.options()));
  const at::Tensor raw = history.weights * at::exp(lookup(log_weight_, own).squeeze(1));
  return mean_items(history, directions, history.bags, raw);
}

at::Tensor TwoTower::state(const GroupInput& users, const HistoryInput& history,
                           const at::Tensor& item_vectors) {
  if (transformer_) {
    std::vector<int64_t> last;
    for (size_t r = 1; r < history.offsets.size(); ++r) {
      last.push_back(history.offsets[r] + static_cast<int64_t>(r) - 1);
    }
    return states_after(users, history, item_vectors, last);
  }
  const at::Tensor directions = item_vectors.slice(1, 0, width_).contiguous();
  if (log_weight_) {
    return torch::nn::functional::normalize(persons(users) + weighed(history, directions));
  }
  return persons(users) + pooled(history, directions);
}

at::Tensor TwoTower::states_after(const GroupInput& users, const HistoryInput& history,
                                  const at::Tensor& item_vectors, std::span<const int64_t> tokens) {
  return transformer_->states(persons(users), history, item_vectors.slice(1, 0, width_), tokens,
                              is_training());
}

at::Tensor TwoTower::query(const at::Tensor& state, const GroupInput& context) {
  at::Tensor q = state;
  if (architecture_.head == Head::kBilinear) {
    std::vector<at::Tensor> parts;
    const at::Tensor moment = keep_mask(context.rows, dropout_.moment);
    for (size_t f = 0; f < context_fields_.size(); ++f) {
      const at::Tensor field = masked(encode(context_fields_[f], context.fields[f]),
                                      keep_mask(context.rows, dropout_.context));
      parts.push_back(masked(field, moment));
    }
    const at::Tensor hidden = at::gelu(at::linear(at::cat(parts, 1), hidden_weight_, hidden_bias_));
    const at::Tensor out = at::linear(hidden, out_weight_, out_bias_);
    const at::Tensor shift = out.slice(1, 0, width_);
    const at::Tensor gate = out.slice(1, width_);
    q = state + shift + at::linear(at::linear(state, w_in_) * gate, w_out_);
  }
  return at::cat({q / architecture_.temperature, at::ones({context.rows, 1}, q.options())}, 1);
}

std::vector<at::Tensor> TwoTower::dense_matrices() const {
  std::vector<at::Tensor> out;
  for (const auto& p : parameters()) {
    if (p.requires_grad() && p.dim() > 1) out.push_back(p);
  }
  return out;
}

std::vector<at::Tensor> TwoTower::dense_vectors() const {
  std::vector<at::Tensor> out;
  for (const auto& p : parameters()) {
    if (p.requires_grad() && p.dim() <= 1) out.push_back(p);
  }
  return out;
}

}  // namespace hypertower
