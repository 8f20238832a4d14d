// First item vectors: from which items follow each other in the training histories, or noise; and
// first item biases: from popularity.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <span>

#include "trainer/dataset.h"
#include "trainer/histories.h"

namespace hypertower {

// [items, dim] with standard deviation `scale`. Co-occurrence within five events (weight 1 / gap),
// shifted positive pointwise mutual information with a smoothed context distribution (Levy &
// Goldberg 2014), a randomised symmetric factorisation of rank dim (Halko et al. 2011), X = V
// sqrt(S), turned at random and with a little noise so that no dimension starts unused. Items
// without events start at the noise. Reads `events` and what lies before them only.
at::Tensor svd_item_start(const Dataset& data, const Histories& histories,
                          std::span<const int64_t> events, int64_t dim, double scale,
                          uint64_t seed);

// Normal noise of that scale.
at::Tensor random_item_start(int64_t items, int64_t dim, double scale, uint64_t seed);

// [items, 1]: log(count + 1) less its mean, so that training starts at popularity.
at::Tensor log_popularity_start(std::span<const float> counts);

}  // namespace hypertower
