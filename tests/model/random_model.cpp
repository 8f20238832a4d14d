#include "tests/model/random_model.h"

#include <utility>

#include "model/encoder.h"
#include "model/history_transformer.h"

namespace hypertower {
namespace {

using Engine = std::mt19937_64;

constexpr const char* kConfig = R"(
name = "random"
[columns]
time = "t"
[user.gender]
kind = "category"
[user.age]
kind = "number"
bins = 4
[user.tags]
kind = "categories"
[context.hour]
from = "time"
[context.weather]
kind = "category"
oov_rows = 2
[context.around]
kind = "categories"
[context.temperature]
kind = "number"
bins = 3
[context.place]
kind = "vector"
length = 5
[item.genres]
kind = "categories"
separator = "|"
[item.brand]
kind = "category"
[item.year]
kind = "number"
bins = 5
[item.art]
kind = "vector"
length = 4
[kinds]
buy = 3.0
view = 0.5
nothing = 0.0
[history]
length = 6
)";

FeatureSpace fit(const Schema& schema, int64_t items) {
  FeatureFitter fitter(schema);
  for (size_t i = 0; i < schema.features.size(); ++i) {
    const Feature& f = schema.features[i];
    for (int64_t n = 0; n < items; ++n) {
      if (f.group == Group::kItem) {
        for (const auto& [name, value] : item_record(n)) {
          if (name == f.name) fitter.add(i, value);
        }
      } else if (f.kind == FeatureKind::kNumber) {
        fitter.add(i, static_cast<double>(n * n % 37) - 5.0);
      } else if (f.kind != FeatureKind::kVector && f.from_time == TimePart::kNone) {
        fitter.add(i, f.name + std::to_string(n % 4));
      }
    }
  }
  return fitter.finish();
}

Tensor random_tensor(std::vector<int64_t> shape, Engine& engine, float scale) {
  int64_t size = 1;
  for (const int64_t s : shape) size *= s;
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> data(static_cast<size_t>(size));
  for (float& x : data) x = normal(engine);
  return {std::move(shape), std::move(data)};
}

Weights random_weights(const Architecture& a, const FeatureSpace& features, int64_t id_rows,
                       Engine& engine) {
  Weights w;
  const auto add_group = [&](Group g, int64_t width) {
    for (const FittedFeature& f : features.group(g)) {
      const bool table =
          f.feature.kind == FeatureKind::kCategory || f.feature.kind == FeatureKind::kCategories;
      w[std::string(group_word(g)) + "." + f.feature.name + ".weight"] = random_tensor(
          table ? std::vector{f.width(), width} : std::vector{width, f.width()}, engine, 0.4F);
    }
  };
  const int64_t t = a.width();
  w["item.id.weight"] = random_tensor({id_rows, t}, engine, 0.5F);
  w["item.bias.weight"] = random_tensor({id_rows, 1}, engine, 0.5F);
  w["query.bias"] = random_tensor({t}, engine, 0.3F);
  if (a.history == HistoryEncoder::kTransformer) {
    for (const auto& [name, shape] : transformer_shapes(a, features.schema())) {
      w[name] = random_tensor(shape, engine, 0.5F);
    }
  } else if (a.history == HistoryEncoder::kSet) {
    w["history.log_weight.weight"] = random_tensor({id_rows, 1}, engine, 0.5F);
  } else {
    w["history.log_decay"] = random_tensor({a.history_pools}, engine, 1.0F);
    w["history.mix"] = random_tensor({a.history_pools, t, t}, engine, 0.3F);
  }
  add_group(Group::kUser, t);
  add_group(Group::kItem, t);
  if (a.head == Head::kNone) return w;
  add_group(Group::kContext, a.context_dim);
  const auto fields = static_cast<int64_t>(features.group(Group::kContext).size());
  w["head.hidden.weight"] = random_tensor({a.head_hidden, a.context_dim * fields}, engine, 0.3F);
  w["head.hidden.bias"] = random_tensor({a.head_hidden}, engine, 0.3F);
  w["head.out.weight"] = random_tensor({t + a.head_rank, a.head_hidden}, engine, 0.3F);
  w["head.out.bias"] = random_tensor({t + a.head_rank}, engine, 0.3F);
  w["head.w_in"] = random_tensor({a.head_rank, t}, engine, 0.3F);
  w["head.w_out"] = random_tensor({t, a.head_rank}, engine, 0.3F);
  return w;
}

}  // namespace

Record item_record(int64_t i) {
  Record record = {{"genres", "g" + std::to_string(i % 5) + "|h" + std::to_string(i % 3)}};
  if (i % 7 != 6) record.emplace_back("brand", "b" + std::to_string(i % 7));
  if (i % 10 != 9) record.emplace_back("year", int64_t{1990} + i % 20);
  const auto x = static_cast<double>(i);
  record.emplace_back("art", std::vector<double>{x / 50.0, 1.0 - x / 50.0, 0.5, -0.25});
  return record;
}

ModelData random_model(const RandomModelOptions& options) {
  Engine engine(options.seed);
  ModelData model;
  const int64_t items = options.items + options.unseen_items;
  const Schema schema = Schema::from_config(ConfigTree::from_toml_text(kConfig, "random.toml"));
  model.features = fit(schema, options.items);
  Architecture& a = model.architecture;
  a.dim = options.dim;
  a.context_dim = 3;
  a.head_hidden = 7;
  a.head_rank = 5;
  a.history_pools = 2;
  a.history = options.history;
  a.history_heads = options.dim % 3 == 0 ? 3 : 1;
  a.head = options.head;
  model.weights = random_weights(a, model.features, options.items, engine);

  const Encoder encoder(a, model.features, model.weights);
  std::vector<Record> records;
  std::vector<const Record*> pointers;
  std::vector<int64_t> id_rows;
  for (int64_t i = 0; i < items; ++i) {
    records.push_back(item_record(i));
    model.catalogue.ids.push_back("i" + std::to_string(i));
    id_rows.push_back(i < options.items ? i : -1);
  }
  for (const Record& record : records) pointers.push_back(&record);
  model.catalogue.dim = options.dim;
  std::vector<float> vectors(static_cast<size_t>(items * options.dim));
  encoder.encode_items(model.features.encode(Group::kItem, pointers, {}), id_rows,
                       {vectors.data(), items, options.dim}, {});
  model.catalogue.vectors = std::move(vectors);
  for (const Feature* f : schema.group(Group::kItem)) {
    if (f->kind == FeatureKind::kVector) continue;
    AttributeBuilder builder(*f);
    for (const Record& record : records) {
      Value found;
      for (const auto& [name, value] : record) {
        if (name == f->name) found = value;
      }
      builder.add(found);
    }
    model.catalogue.attributes.push_back(builder.finish());
  }
  model.metrics = {{"test", {{"ndcg@10", 0.125}}}};
  model.training = {{"seed", options.seed}};
  model.data_fingerprint = "0123";
  return model;
}

}  // namespace hypertower
