// Writes a model directory with any number of items and random vectors, for measuring what a large
// catalogue costs: hypertower_make_model ITEMS DIM PATH. People are their histories; there is one
// category, "group", of a hundred values, to filter by.
#include <cmath>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <random>
#include <utility>

#include "kernels/parallel.h"
#include "model/golden.h"
#include "model/model_directory.h"

namespace hypertower {
namespace {

constexpr int64_t kGroups = 100;

FeatureSpace features() {
  Schema schema;
  schema.name = "random";
  schema.columns.time = "timestamp";
  schema.history_length = 10;
  return {schema, {}};
}

// Rows of length one: a direction, and a bias of zero as the last number.
std::vector<float> random_vectors(int64_t items, int64_t dim, int threads) {
  std::vector<float> vectors(static_cast<size_t>(items * dim));
  parallel_for(threads, items, 4096, [&](int64_t begin, int64_t end) {
    std::minstd_rand random(static_cast<unsigned>(begin / 4096 + 1));
    std::normal_distribution<float> normal;
    for (int64_t i = begin; i < end; ++i) {
      float* row = &vectors[static_cast<size_t>(i * dim)];
      double squares = 0;
      for (int64_t c = 0; c + 1 < dim; ++c) {
        row[c] = normal(random);
        squares += row[c] * row[c];
      }
      const auto scale = static_cast<float>(1 / std::sqrt(squares));
      for (int64_t c = 0; c + 1 < dim; ++c) row[c] *= scale;
    }
  });
  return vectors;
}

Tensor constant(std::vector<int64_t> shape, int64_t size, float value) {
  return {std::move(shape), std::vector<float>(static_cast<size_t>(size), value)};
}

ModelData random_model(int64_t items, int64_t dim, int threads) {
  ModelData model;
  model.features = features();
  Architecture& a = model.architecture;
  a.dim = dim;
  a.history = HistoryEncoder::kPools;
  a.history_pools = 1;
  a.head = Head::kNone;
  const int64_t width = dim - 1;
  Catalogue& catalogue = model.catalogue;
  catalogue.dim = dim;
  catalogue.vectors = random_vectors(items, dim, threads);
  Attribute group;
  group.name = "group";
  std::vector<std::string> names;
  for (int64_t g = 0; g < kGroups; ++g) names.push_back("g" + std::to_string(g));
  group.values = Vocabulary(names, 0);
  group.offsets.push_back(0);
  for (int64_t i = 0; i < items; ++i) {
    catalogue.ids.push_back(std::to_string(i));
    group.codes.push_back(static_cast<int32_t>(i % kGroups));
    group.offsets.push_back(i + 1);
  }
  catalogue.attributes.push_back(std::move(group));
  // The numbers of the vectors once more: nobody encodes these items anew.
  model.weights["item.id.weight"] = {
      {items, width},
      {std::span(catalogue.vectors.data(), static_cast<size_t>(items * width)),
       std::make_shared<SharedArray<float>>(catalogue.vectors)}};
  model.weights["item.bias.weight"] = constant({items, 1}, items, 0);
  model.weights["query.bias"] = constant({width}, width, 0.01F);
  model.weights["history.log_decay"] = constant({1}, 1, 0);
  std::vector<float> identity(static_cast<size_t>(width * width));
  for (int64_t i = 0; i < width; ++i) identity[static_cast<size_t>(i * width + i)] = 1;
  model.weights["history.mix"] = {{1, width, width}, std::move(identity)};
  model.item_ids_are_integers = true;
  model.golden = make_golden(model, 8, 1);
  return model;
}

}  // namespace
}  // namespace hypertower

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: hypertower_make_model ITEMS DIM PATH\n";
    return 2;
  }
  try {
    const int threads = hypertower::hardware_threads();
    hypertower::write_model_directory(
        hypertower::random_model(std::atoll(argv[1]), std::atoll(argv[2]), threads), argv[3]);
  } catch (const std::exception& e) {
    std::cerr << "hypertower_make_model: " << e.what() << "\n";
    return 1;
  }
}
