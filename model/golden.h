// Golden answers: random requests with the answers of the encoder that exported the model. Every
// load asks them again, so a model never serves on a build that would answer differently.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/model_directory.h"
#include "model/recommender.h"

namespace hypertower {

// Requests of random catalogue items as history and random values of the user and context features,
// each of them missing at times, the first request empty; with queries and items of our encoder.
// Copies the model once. Deterministic in `seed`; never a real person.
std::vector<Golden> make_golden(const ModelData& model, int64_t count, uint64_t seed);

// Error(kModel) with the number of the request, expected and found, when an answer does not come
// out: queries within 1e-4 of their length, items equal up to ties within the same bound.
void check_golden(const Recommender& recommender, std::span<const Golden> golden);

}  // namespace hypertower
