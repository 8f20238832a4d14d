#include <algorithm>
#include <cmath>
#include <functional>
#include <unordered_map>
#include <utility>

#include "model/features.h"

namespace hypertower {
namespace {

constexpr size_t kSampleSize = size_t{1} << 18;

// The output function of SplitMix64 (Steele, Lea, Flood 2014): here a hash of the draw's number.
uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};

std::vector<float> quantile_edges(std::vector<float> values, int64_t bins) {
  if (values.empty()) return {0.0F, 1.0F};
  std::sort(values.begin(), values.end());
  std::vector<float> edges;
  const size_t last = values.size() - 1;
  for (int64_t e = 0; e <= bins; ++e) {
    const auto rank = static_cast<size_t>(std::llround(
        static_cast<double>(last) * static_cast<double>(e) / static_cast<double>(bins)));
    if (edges.empty() || values[rank] > edges.back()) edges.push_back(values[rank]);
  }
  if (edges.size() == 1) {  // a constant: put it in the middle of one piece, unlike a missing value
    const float half = std::max(0.5F, std::abs(edges[0]) * 0x1p-20F);
    edges = {edges[0] - half, edges[0] + half};
  }
  return edges;
}

}  // namespace

struct FeatureFitter::Column {
  std::unordered_map<std::string, int64_t, TextHash, std::equal_to<>> counts;
  FeatureColumn scratch;
  std::vector<float> sample;
  uint64_t numbers = 0;

  void count(const std::string& text) { ++counts[text]; }

  // Reservoir sampling (Vitter 1985, algorithm R).
  void draw(float number) {
    if (sample.size() < kSampleSize) {
      sample.push_back(number);
    } else if (const uint64_t place = mix(numbers) % (numbers + 1); place < kSampleSize) {
      sample[place] = number;
    }
    ++numbers;
  }

  std::vector<std::string> frequent(int64_t min_count) const {
    std::vector<std::pair<int64_t, std::string>> order;
    for (const auto& [text, count] : counts) {
      if (count >= min_count) order.emplace_back(-count, text);
    }
    std::sort(order.begin(), order.end());
    std::vector<std::string> texts;
    texts.reserve(order.size());
    for (auto& [count, text] : order) texts.push_back(std::move(text));
    return texts;
  }
};

FeatureFitter::FeatureFitter(const Schema& schema)
    : schema_(schema), columns_(schema.features.size()) {}
FeatureFitter::~FeatureFitter() = default;
FeatureFitter::FeatureFitter(FeatureFitter&&) noexcept = default;
FeatureFitter& FeatureFitter::operator=(FeatureFitter&&) noexcept = default;

void FeatureFitter::add(size_t index, const Value& value) {
  const Feature& feature = schema_.features[index];
  Column& column = columns_[index];
  if (feature.kind == FeatureKind::kCategory || feature.kind == FeatureKind::kCategories) {
    for (const std::string& text : category_texts(feature, value)) column.count(text);
    return;
  }
  column.scratch.dense.clear();
  FeatureSpace::append({feature, {}, {}}, value, column.scratch);
  if (feature.kind == FeatureKind::kNumber && !std::isnan(column.scratch.dense[0])) {
    column.draw(column.scratch.dense[0]);
  }
}

FeatureSpace FeatureFitter::finish() const {
  std::vector<FittedFeature> fitted;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Feature& feature = schema_.features[i];
    FittedFeature f{feature, {}, {}};
    if (feature.kind == FeatureKind::kNumber) {
      f.edges = quantile_edges(columns_[i].sample, feature.bins);
    } else if (feature.from_time != TimePart::kNone) {
      f.vocabulary = Vocabulary(time_part_values(feature.from_time), feature.oov_rows);
    } else if (feature.kind != FeatureKind::kVector) {
      // Of a dynamic vocabulary all values: training decides which of them get rows.
      const int64_t least = feature.dynamic_rows > 0 ? 1 : feature.min_count;
      f.vocabulary = Vocabulary(columns_[i].frequent(least), feature.oov_rows);
    }
    fitted.push_back(std::move(f));
  }
  return {schema_, std::move(fitted)};
}

}  // namespace hypertower
