// A person's own past by moment: what somebody did at times like this one, a dot product of towers
// that generalise says badly. The scores of a request become
//
//   score(i) = <q, v_i> + weight * ln(1 + scale * sum over past events j with item i of a_j)
//   a_j      = kind weight_j * (1 + r_j)^-fading * exp(sum over fields f of match_f [f is alike])
//
// where r_j is how many events came after j, and a context field is alike when the request and the
// event both give it and it has the same values: categories, time parts among them. The numbers are
// fitted after the towers (trainer/fit_memory.h). Retrieval stays exact: the second term is not
// zero for at most kEvents items of a request, whose scores are adjusted (kernels/topk.h).
//
// A plain value, thread-safe to share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/features.h"
#include "model/score_deltas.h"

namespace hypertower {

struct PastEvent {
  int64_t item = 0;
  float weight = 1.0F;  // of its kind
  int64_t context = 0;  // its row of a Batch of the context group
};

struct Habits {
  static constexpr int64_t kEvents = 256;  // the latest that are read

  float weight = 0.0F;  // 0: off
  float scale = 1.0F;
  float fading = 0.0F;
  std::vector<float> match;  // by context feature, in schema order; 0 for numbers and vectors

  bool on() const { return weight > 0.0F; }
  // By item, ascending. `past` is oldest first, its events' contexts are rows of `contexts`; the
  // request's is row `moment` of `moments`.
  ScoreDeltas deltas(std::span<const PastEvent> past, const Batch& contexts, const Batch& moments,
                     int64_t moment) const;
};

// Whether a field, of which these are the columns, is alike in two records.
bool alike(const FeatureColumn& a, int64_t row_a, const FeatureColumn& b, int64_t row_b);

// Error(kModel) in one sentence: numbers that are not finite or below zero, or not one per feature.
void check_habits(const Habits& habits, size_t context_features);

}  // namespace hypertower
