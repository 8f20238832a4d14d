#include "trainer/export.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "model/encoder.h"
#include "model/golden.h"
#include "model/history_transformer.h"
#include "trainer/evaluate.h"
#include "trainer/text.h"

namespace hypertower {
namespace {

constexpr double kParity = 1e-5;
constexpr int64_t kGoldenRequests = 16;

Weights weights_of(const TwoTower& towers) {
  Weights out;
  const auto& vocabularies = towers.vocabularies();
  for (const auto& p : towers.named_parameters()) {
    at::Tensor value = p.value().detach().cpu().contiguous();
    if (const auto dynamic = vocabularies.find(p.key()); dynamic != vocabularies.end()) {
      value = value.index_select(0, to_tensor(dynamic->second->exported_order(), at::kCPU));
    }
    const std::span<const float> numbers(value.const_data_ptr<float>(),
                                         static_cast<size_t>(value.numel()));
    out.emplace(p.key(),
                Tensor{value.sizes().vec(), {numbers, std::make_shared<at::Tensor>(value)}});
  }
  return out;
}

// The vocabulary of a feature's table; null where it is not dynamic.
const DynamicVocabulary* vocabulary_of(const TwoTower& towers, const Feature& f) {
  const auto found =
      towers.vocabularies().find(concat(group_word(f.group), ".", f.name, ".weight"));
  return found == towers.vocabularies().end() ? nullptr : found->second.get();
}

// Features as serving knows them: of dynamic vocabularies the values that have rows.
FeatureSpace exported_features(const TwoTower& towers, const FeatureSpace& features) {
  std::vector<FittedFeature> fitted;
  for (const Group group : {Group::kUser, Group::kContext, Group::kItem}) {
    for (const FittedFeature& f : features.group(group)) {
      const DynamicVocabulary* vocabulary = vocabulary_of(towers, f.feature);
      fitted.push_back(vocabulary == nullptr ? f : exported(f, *vocabulary));
    }
  }
  return {features.schema(), std::move(fitted)};
}

Batch exported_items(const TwoTower& towers, const Dataset& data) {
  Batch items = data.item_features;
  const auto features = data.features.group(Group::kItem);
  for (size_t f = 0; f < features.size(); ++f) {
    const DynamicVocabulary* vocabulary = vocabulary_of(towers, features[f].feature);
    if (vocabulary == nullptr) continue;
    std::vector<int64_t>& values = items.columns[f].values;
    values = vocabulary->exported_numbers(values);
  }
  return items;
}

// Largest difference of two vectors, relative to the length of the first where that exceeds 1.
double difference(const float* a, const float* b, int64_t dim) {
  double length = 0;
  double largest = 0;
  for (int64_t d = 0; d < dim; ++d) {
    length += static_cast<double>(a[d]) * a[d];
    largest = std::max(largest, std::abs(static_cast<double>(a[d]) - b[d]));
  }
  return largest / std::max(1.0, std::sqrt(length));
}

void check_parity(const std::string& what, const float* torch, const float* ours, int64_t dim) {
  const double d = difference(torch, ours, dim);
  if (d <= kParity) return;
  throw Error(ErrorKind::kModel, concat("the exported model differs from the trained one in the ",
                                        what, ": by ", d, ", at most ", kParity, " is allowed."));
}

// The towers' answer to a request of golden.json.
at::Tensor torch_query(TwoTower& towers, const TrainingInputs& inputs, const at::Tensor& items,
                       const Request& request) {
  const at::NoGradGuard no_grad;
  const FeatureSpace& features = inputs.data.features;
  const Record* user_record = &request.features;
  const Record* context_record = &request.context;
  const std::optional<double> time = request.time;
  const Batch user = features.encode(Group::kUser, {&user_record, 1}, {});
  const Batch context = features.encode(Group::kContext, {&context_record, 1}, {&time, 1});
  const std::vector<int64_t> first = {0};
  HistoryRows history;
  const auto& kinds = features.schema().kind_weights;
  const auto length = static_cast<size_t>(features.schema().history_length);
  const auto& events = *request.history;
  for (size_t i = events.size() > length ? events.size() - length : 0; i < events.size(); ++i) {
    const auto weight = kinds.find(events[i].kind);
    history.items.push_back(inputs.data.items.find(events[i].item));
    history.weights.push_back(weight == kinds.end() ? 1.0F : static_cast<float>(weight->second));
    history.kinds.push_back(kind_row(features.schema(), events[i].kind));
    history.ages.push_back(static_cast<int64_t>(events.size() - 1 - i));
  }
  history.offsets.push_back(static_cast<int64_t>(history.items.size()));
  const at::Tensor state =
      towers.state(GroupStore(features.group(Group::kUser), user, inputs.device).gather(first),
                   to_input(history, inputs.device), items);
  return towers
      .query(state,
             GroupStore(features.group(Group::kContext), context, inputs.device).gather(first))
      .cpu()
      .contiguous();
}

// What the context of an event says, as far as training knows the values; habits read it.
Record context_of(const Dataset& data, int64_t event) {
  Record context;
  const auto features = data.features.group(Group::kContext);
  for (size_t f = 0; f < features.size(); ++f) {
    const Feature& feature = features[f].feature;
    const FeatureColumn& column = data.events.context.columns[f];
    if (feature.from_time != TimePart::kNone || column.values.empty()) continue;
    const std::vector<std::string>& known = features[f].vocabulary.values();
    std::vector<std::string> texts;
    for (int64_t at = column.offsets[static_cast<size_t>(event)];
         at < column.offsets[static_cast<size_t>(event) + 1]; ++at) {
      const auto value = static_cast<size_t>(column.values[static_cast<size_t>(at)]);
      if (value < known.size()) texts.push_back(known[value]);
    }
    if (texts.empty()) continue;
    if (feature.kind == FeatureKind::kCategory) {
      context.emplace_back(feature.name, texts.front());
    } else {
      context.emplace_back(feature.name, std::move(texts));
    }
  }
  return context;
}

std::vector<Person> people_of(const TrainingInputs& inputs, const ExportOptions& options) {
  const Dataset& data = inputs.data;
  std::vector<Person> people;
  for (int64_t u = 0; u < data.users.size(); ++u) {
    Person person;
    person.user = data.users.ids()[static_cast<size_t>(u)];
    person.features = data.user_records[static_cast<size_t>(u)];
    for (const int64_t row : inputs.histories.events_of(u)) {
      const auto e = static_cast<size_t>(row);
      if (!options.people_of_test && data.events.part[e] == Part::kTest) continue;
      HistoryEvent event;
      event.item = data.items.ids()[static_cast<size_t>(data.events.item[e])];
      if (!data.kinds.empty()) event.kind = data.kinds[static_cast<size_t>(data.events.kind[e])];
      if (!data.events.time.empty()) event.time = data.events.time[e];
      if (options.memory.habits.on()) event.context = context_of(data, row);
      person.history.push_back(std::move(event));
    }
    people.push_back(std::move(person));
  }
  return people;
}

}  // namespace

ModelData export_model(TwoTower& towers, const TrainingInputs& inputs,
                       const ExportOptions& options) {
  const Dataset& data = inputs.data;
  const int64_t dim = towers.architecture().dim;
  const int64_t n = data.items.size();
  ModelData model;
  model.features = exported_features(towers, data.features);
  model.architecture = towers.architecture();
  model.weights = weights_of(towers);
  model.user_ids_are_integers = data.users.all_integers();
  model.item_ids_are_integers = data.items.all_integers();
  model.exclude_seen_by_default = options.exclude_seen;
  model.data_fingerprint = data.fingerprint;
  model.memory = options.memory;

  // The vectors that serving would compute itself.
  const Encoder encoder(model.architecture, model.features, model.weights);
  Exec exec;
  exec.threads = at::get_num_threads();
  std::vector<int64_t> id_rows(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) id_rows[static_cast<size_t>(i)] = i;
  model.catalogue.ids = data.items.ids();
  model.catalogue.dim = dim;
  model.catalogue.attributes = data.attributes;
  std::vector<float> vectors(static_cast<size_t>(n * dim));
  encoder.encode_items(exported_items(towers, data), id_rows, {vectors.data(), n, dim}, exec);
  model.catalogue.vectors = std::move(vectors);

  const at::Tensor items = encode_catalogue(towers, inputs);
  const at::Tensor items_here = items.cpu();
  for (int64_t i = 0; i < n; ++i) {
    check_parity("vector of item '" + data.items.ids()[static_cast<size_t>(i)] + "'",
                 items_here.const_data_ptr<float>() + i * dim,
                 model.catalogue.vectors.data() + i * dim, dim);
  }
  model.golden = make_golden(model, kGoldenRequests, options.seed);
  for (size_t g = 0; g < model.golden.size(); ++g) {
    const at::Tensor query = torch_query(towers, inputs, items, model.golden[g].request);
    check_parity(concat("query of golden request ", g), query.const_data_ptr<float>(),
                 model.golden[g].query.data(), dim);
  }
  model.people = people_of(inputs, options);
  return model;
}

}  // namespace hypertower
