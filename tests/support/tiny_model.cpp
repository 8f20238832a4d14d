#include "tests/support/tiny_model.h"

#include <numeric>
#include <utility>
#include <vector>

#include "model/recommender.h"

namespace hypertower {
namespace {

constexpr int64_t kDim = 9;
constexpr int64_t kWidth = kDim - 1;  // the last number of a vector is the item's bias
constexpr int64_t kContextDim = 4;
constexpr int64_t kHidden = 4;
constexpr int64_t kRank = 2;
constexpr int64_t kOovRows = 2;
const std::vector<std::string> kGenres(std::begin(kTinyGenres), std::end(kTinyGenres));
const std::vector<std::string> kMoods = {"happy", "sad", "scared"};

Feature category(const std::string& name, Group group) {
  Feature feature;
  feature.name = name;
  feature.column = name;
  feature.group = group;
  feature.oov_rows = kOovRows;
  return feature;
}

Schema tiny_schema(const std::string& name) {
  Schema schema;
  schema.name = name;
  schema.columns.time = "timestamp";
  schema.history_length = 10;
  schema.features.push_back(category("taste", Group::kUser));
  schema.features.push_back(category("mood", Group::kContext));
  Feature hour = category("hour", Group::kContext);
  hour.from_time = TimePart::kHour;
  schema.features.push_back(hour);
  schema.features.push_back(category("genre", Group::kItem));
  Feature year = category("year", Group::kItem);
  year.kind = FeatureKind::kNumber;
  schema.features.push_back(year);
  return schema;
}

FeatureSpace tiny_features(const Schema& schema) {
  std::vector<FittedFeature> fitted;
  for (const Feature& feature : schema.features) {
    FittedFeature& f = fitted.emplace_back();
    f.feature = feature;
    if (feature.name == "taste" || feature.name == "genre") {
      f.vocabulary = Vocabulary(kGenres, kOovRows);
    } else if (feature.name == "mood") {
      f.vocabulary = Vocabulary(kMoods, kOovRows);
    } else if (feature.name == "hour") {
      f.vocabulary = Vocabulary(time_part_values(TimePart::kHour), kOovRows);
    } else {
      f.edges = {1960, 1990, 2020};
    }
  }
  return FeatureSpace(schema, std::move(fitted));
}

// value(i) at place i.
template <class Value>
Tensor filled(std::vector<int64_t> shape, const Value& value) {
  const int64_t size = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  std::vector<float> data;
  for (int64_t i = 0; i < size; ++i) data.push_back(value(i));
  return {std::move(shape), std::move(data)};
}

Tensor zeros(std::vector<int64_t> shape) {
  return filled(std::move(shape), [](int64_t) { return 0.0F; });
}

// [rows, cols] with `value` at the first `n` places of the diagonal.
Tensor diagonal(int64_t rows, int64_t cols, float value, int64_t n = 3) {
  return filled({rows, cols},
                [&](int64_t i) { return i / cols == i % cols && i / cols < n ? value : 0.0F; });
}

Weights tiny_weights(const TinyModelOptions& options) {
  Weights weights;
  weights["item.id.weight"] = filled({options.items, kWidth}, [](int64_t place) {
    const int64_t i = place / kWidth;
    const int64_t c = place % kWidth;
    const auto noise = static_cast<float>((i * 7 + c * 13) % 11 - 5);
    return c < 3 ? 0.0F : 0.02F * noise;  // tells items of one genre apart
  });
  weights["item.bias.weight"] = zeros({options.items, 1});
  const auto genre_rows = static_cast<int64_t>(kGenres.size()) + kOovRows;
  weights["item.genre.weight"] = diagonal(genre_rows, kWidth, 1.0F);
  weights["item.year.weight"] = zeros({kWidth, 2});
  weights["user.taste.weight"] = diagonal(genre_rows, kWidth, 0.5F);
  weights["query.bias"] = filled({kWidth}, [&](int64_t c) {
    return c == options.popular ? 0.1F : c < 3 ? 0.0F : 0.02F;
  });
  weights["history.log_decay"] = zeros({1});
  weights["history.mix"] = diagonal(kWidth, kWidth, 1.0F, kWidth);
  weights["history.mix"].shape = {1, kWidth, kWidth};
  weights["context.mood.weight"] =
      diagonal(static_cast<int64_t>(kMoods.size()) + kOovRows, kContextDim, 1.0F);
  weights["context.hour.weight"] = zeros({24 + kOovRows, kContextDim});
  // hidden = the mood's axis; a missing mood gives zeros all the way.
  weights["head.hidden.weight"] = diagonal(kHidden, 2 * kContextDim, 1.0F);
  weights["head.hidden.bias"] = zeros({kHidden});
  weights["head.out.weight"] = diagonal(kWidth + kRank, kHidden, 4.0F);
  weights["head.out.bias"] = zeros({kWidth + kRank});
  weights["head.w_in"] = zeros({kRank, kWidth});
  weights["head.w_out"] = zeros({kWidth, kRank});
  return weights;
}

Catalogue tiny_catalogue(const TinyModelOptions& options, const Encoder& encoder) {
  Catalogue catalogue;
  catalogue.dim = kDim;
  Attribute genre;
  genre.name = "genre";
  genre.values = Vocabulary(kGenres, 0);
  genre.offsets = {0};
  Attribute year;
  year.name = "year";
  year.is_number = true;
  std::vector<Record> records;
  std::vector<int64_t> id_rows;
  for (int64_t i = 1; i <= options.items; ++i) {
    catalogue.ids.push_back(std::to_string(i));
    genre.codes.push_back(static_cast<int32_t>(i % 3));
    genre.offsets.push_back(i);
    year.numbers.push_back(static_cast<double>(1960 + i % 60));
    records.push_back({{"genre", kGenres[static_cast<size_t>(i % 3)]}, {"year", 1960 + i % 60}});
    id_rows.push_back(i - 1);
  }
  std::vector<const Record*> pointers;
  for (const Record& record : records) pointers.push_back(&record);
  const Batch batch = encoder.features().encode(Group::kItem, pointers, {});
  std::vector<float> vectors(static_cast<size_t>(options.items * kDim));
  encoder.encode_items(batch, id_rows, {vectors.data(), options.items, kDim}, Exec{});
  catalogue.vectors = std::move(vectors);
  catalogue.attributes = {std::move(genre), std::move(year)};
  return catalogue;
}

// What the recommender itself answers: a golden check of the round trip through the files.
std::vector<Golden> tiny_golden(const ModelData& model) {
  std::vector<Golden> golden;
  const Recommender recommender{ModelData(model)};
  for (int i = 0; i < 8; ++i) {
    Golden& g = golden.emplace_back();
    g.request.time = 3600.0 * i;
    g.request.history.emplace();
    for (int j = 0; j < i; ++j) {
      HistoryEvent event;
      event.item = std::to_string(1 + (i * 5 + j) % 60);
      g.request.history->push_back(event);
    }
    if (i % 2 == 1) g.request.context = {{"mood", kMoods[static_cast<size_t>(i % 3)]}};
    if (i % 4 == 2) g.request.features = {{"taste", kGenres[static_cast<size_t>(i % 3)]}};
    RecommendOptions options;
    options.exclude_seen = false;
    const Answer answer = recommender.recommend({&g.request, 1}, options, nullptr, Exec{}).front();
    for (const Hit& hit : answer.hits) {
      g.items.push_back(recommender.index().id(hit.row));
      g.scores.push_back(hit.score);
    }
    g.query = recommender.encode_query({&g.request, 1}, nullptr, Exec{});
  }
  return golden;
}

}  // namespace

ModelData tiny_model(const TinyModelOptions& options) {
  ModelData model;
  model.features = tiny_features(tiny_schema(options.name));
  Architecture& a = model.architecture;
  a.dim = kDim;
  a.context_dim = kContextDim;
  a.head_hidden = kHidden;
  a.head_rank = kRank;
  a.history = HistoryEncoder::kPools;
  a.history_pools = 1;
  a.head = Head::kBilinear;
  a.temperature = 1.0;
  model.weights = tiny_weights(options);
  model.catalogue =
      tiny_catalogue(options, Encoder(model.architecture, model.features, model.weights));
  model.user_ids_are_integers = true;
  model.item_ids_are_integers = true;
  model.exclude_seen_by_default = options.exclude_seen_by_default;
  model.data_fingerprint = "tiny";
  if (options.with_people) {
    Person person;
    person.user = "1";
    person.features = {{"taste", "Drama"}};
    HistoryEvent seen;
    seen.item = "2";
    seen.time = 1000.0;
    person.history.push_back(seen);
    model.people.push_back(person);
  }
  model.golden = tiny_golden(model);
  return model;
}

}  // namespace hypertower
