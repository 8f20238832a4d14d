// The towers in double and plain loops, written from the formulas of model/architecture.h alone:
// the specification that the encoder is held against.
#pragma once

#include <cstdint>
#include <vector>

#include "model/encoder.h"

namespace hypertower {

using Vector = std::vector<double>;

Vector oracle_item(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                   const Record& record, int64_t id_row);

// item_vectors [N, dim]; history as rows with kind weights, oldest first.
Vector oracle_state(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Record& user, const std::vector<int64_t>& history,
                    const std::vector<double>& kind_weights, std::span<const float> item_vectors);

Vector oracle_query(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Vector& state, const Record& context, double time);

}  // namespace hypertower
