#include "model/golden.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "kernels/error.h"
#include "kernels/topk.h"

namespace hypertower {
namespace {

constexpr int64_t kItemsPerAnswer = 10;
constexpr double kTolerance = 1e-4;

// The engine is defined to the bit by the standard; its distributions are not, so none is used.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  bool one_in(int64_t n) { return below(n) == 0; }
  double unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 engine_;
};

std::string random_text(const FittedFeature& f, Random& random) {
  const Vocabulary& known = f.vocabulary;
  if (known.size() == 0 || random.one_in(8)) return "unseen " + std::to_string(random.below(100));
  return known.value(random.below(known.size()));
}

Value random_value(const FittedFeature& f, Random& random) {
  switch (f.feature.kind) {
    case FeatureKind::kCategory:
      return random_text(f, random);
    case FeatureKind::kCategories: {
      std::vector<std::string> texts(static_cast<size_t>(1 + random.below(3)));
      for (std::string& text : texts) text = random_text(f, random);
      return texts;
    }
    case FeatureKind::kNumber: {
      const double first = f.edges.front();
      return first + random.unit() * (f.edges.back() - first);
    }
    case FeatureKind::kVector:
      break;
  }
  std::vector<double> elements(static_cast<size_t>(f.feature.length));
  for (double& element : elements) element = 2.0 * random.unit() - 1.0;
  return elements;
}

Record random_record(std::span<const FittedFeature> features, Random& random) {
  Record record;
  for (const FittedFeature& f : features) {
    if (random.one_in(4)) continue;
    record.emplace_back(f.feature.name, random.one_in(16) ? Value{} : random_value(f, random));
  }
  return record;
}

Request random_request(const ModelData& model, Random& random) {
  const Schema& schema = model.features.schema();
  const auto items = static_cast<int64_t>(model.catalogue.ids.size());
  Request request;
  request.time = static_cast<double>(1'000'000'000 + random.below(700'000'000));
  request.context = random_record(model.features.group(Group::kContext), random);
  request.features = random_record(model.features.group(Group::kUser), random);
  std::vector<std::string> kinds = {""};
  for (const auto& [kind, weight] : schema.kind_weights) kinds.push_back(kind);
  auto& history = request.history.emplace();
  const int64_t length =
      items == 0 ? 0 : random.below(std::min<int64_t>(schema.history_length, 30) + 1);
  for (int64_t i = 0; i < length; ++i) {
    HistoryEvent event;
    event.item = model.catalogue.ids[static_cast<size_t>(random.below(items))];
    event.kind = kinds[static_cast<size_t>(random.below(static_cast<int64_t>(kinds.size())))];
    history.push_back(std::move(event));
  }
  return request;
}

std::vector<Answer> answers_of(const Recommender& recommender, std::span<const Request> requests) {
  RecommendOptions options;
  options.k = kItemsPerAnswer;
  options.exclude_seen = false;
  return recommender.recommend(requests, options, nullptr, {});
}

[[noreturn]] void differs(size_t number, const std::string& what) {
  throw Error(ErrorKind::kModel,
              "golden request " + std::to_string(number) + " " + what +
                  ": this program would answer differently from the one that exported the model. "
                  "Export the model again with this version.");
}

std::string shown(const ItemIndex& index, const Hit& hit) {
  return "'" + index.id(hit.row) + "' with " + std::to_string(hit.score);
}

void check_items(const Recommender& recommender, const Golden& g, size_t number,
                 const std::vector<Hit>& hits, double tolerance) {
  const ItemIndex& index = recommender.index();
  if (hits.size() != g.items.size() || g.items.size() != g.scores.size()) {
    differs(number, "expected " + std::to_string(g.items.size()) + " items, found " +
                        std::to_string(hits.size()));
  }
  const std::vector<float> expected =
      recommender.score({&g.request, 1}, {&g.items, 1}, nullptr, {});
  for (size_t j = 0; j < hits.size(); ++j) {
    // Another item at this rank is right only when the expected one scores the same.
    if (!(std::abs(hits[j].score - g.scores[j]) <= tolerance) ||
        !(std::abs(expected[j] - g.scores[j]) <= tolerance)) {
      differs(number, "expected item '" + g.items[j] + "' with " + std::to_string(g.scores[j]) +
                          " at rank " + std::to_string(j + 1) + ", found " + shown(index, hits[j]));
    }
  }
}

}  // namespace

std::vector<Golden> make_golden(const ModelData& model, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<Request> requests;
  for (int64_t i = 0; i < count; ++i) {
    Request request;
    if (i > 0) request = random_request(model, random);
    if (i == 0) {
      request.time = 1'500'000'000.0;
      request.history.emplace();
    }
    requests.push_back(std::move(request));
  }
  ModelData copy = model;
  copy.golden.clear();
  copy.people.clear();
  const Recommender recommender(std::move(copy));
  const std::vector<float> queries = recommender.encode_query(requests, nullptr, {});
  const std::vector<Answer> answers = answers_of(recommender, requests);
  const auto dim = static_cast<size_t>(recommender.index().dim());
  std::vector<Golden> golden;
  for (size_t r = 0; r < requests.size(); ++r) {
    Golden g;
    g.request = std::move(requests[r]);
    g.query.assign(queries.begin() + static_cast<int64_t>(r * dim),
                   queries.begin() + static_cast<int64_t>((r + 1) * dim));
    for (const Hit& hit : answers[r].hits) {
      g.items.push_back(recommender.index().id(hit.row));
      g.scores.push_back(hit.score);
    }
    golden.push_back(std::move(g));
  }
  return golden;
}

void check_golden(const Recommender& recommender, std::span<const Golden> golden) {
  if (golden.empty()) return;
  std::vector<Request> requests;
  for (const Golden& g : golden) requests.push_back(g.request);
  const std::vector<float> queries = recommender.encode_query(requests, nullptr, {});
  const std::vector<Answer> answers = answers_of(recommender, requests);
  const auto dim = static_cast<size_t>(recommender.index().dim());
  for (size_t r = 0; r < golden.size(); ++r) {
    const float* query = queries.data() + r * dim;
    if (golden[r].query.size() != dim) {
      differs(r, "expected a query of " + std::to_string(golden[r].query.size()) +
                     " numbers, found " + std::to_string(dim));
    }
    double norm = 0.0;
    for (const float x : golden[r].query) norm += static_cast<double>(x) * x;
    const double tolerance = kTolerance * std::max(1.0, std::sqrt(norm));
    for (size_t j = 0; j < dim; ++j) {
      if (!(std::abs(query[j] - golden[r].query[j]) <= tolerance)) {
        differs(r, "expected " + std::to_string(golden[r].query[j]) + " at element " +
                       std::to_string(j) + " of the query, found " + std::to_string(query[j]));
      }
    }
    check_items(recommender, golden[r], r, answers[r].hits, 2.0 * tolerance);
  }
}

}  // namespace hypertower
