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

// A history in rows of the catalogue, oldest first, with the weights and rows of their kinds.
struct OracleHistory {
  std::vector<int64_t> items;
  std::vector<double> kind_weights;
  std::vector<int64_t> kinds;
};

// item_vectors [N, dim].
Vector oracle_state(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Record& user, const OracleHistory& history,
                    std::span<const float> item_vectors);

Vector oracle_query(const Architecture& a, const FeatureSpace& features, const Weights& weights,
                    const Vector& state, const Record& context, double time);

}  // namespace hypertower
