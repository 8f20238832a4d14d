// Small top-K problems that break selection code: ties at the cut, equal scores, neighbours one ulp
// apart, extreme magnitudes, masks and lists that take everything away. Every implementation must
// give the bits of `reference` on each; small enough for the CUDA emulator.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/topk_reference.h"

namespace hypertower::testing {

using NamedCases = std::vector<std::pair<std::string, TopKCase>>;

inline float ulps_above_one(int64_t ulps) {
  return std::bit_cast<float>(0x3F800000U + static_cast<uint32_t>(ulps));
}

// Score patterns of `n` items, cut at k.
inline NamedCases score_pattern_cases(int64_t n, int64_t k) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  Rng rng(7);
  NamedCases cases;
  std::vector<float> s(n);
  const auto add = [&](const std::string& name) { cases.emplace_back(name, scores_case(s, k)); };

  for (float& v : s) v = 0.25F;
  add("all equal");
  for (int64_t i = 0; i < n; ++i) s[i] = i % 3 == 0 ? 2.0F : 1.0F;
  add("two values");
  for (const int64_t better : {k - 1, k, k + 1}) {  // `better` items above a plateau
    std::fill(s.begin(), s.end(), -1.0F);
    for (int64_t i = 0; i < std::min(better, n); ++i) s[(i * 37 + 11) % n] = 5.0F;
    add("tie of " + std::to_string(better) + " at a cut of " + std::to_string(k));
  }
  for (int64_t i = 0; i < n; ++i) s[i] = static_cast<float>(i);
  add("ascending");
  std::reverse(s.begin(), s.end());
  add("descending");
  for (int64_t i = 0; i < n; ++i) s[i] = static_cast<float>(i * 7919 % n) - 0.5F * n;
  add("shuffled, both signs");
  for (int64_t i = 0; i < n; ++i) s[i] = ulps_above_one(i * 61 % 7);
  add("one ulp apart");
  for (int64_t i = 0; i < n; ++i) s[i] = ulps_above_one(i * 61 % 256);
  add("same leading bits");
  for (int64_t i = 0; i < n; ++i) s[i] = i % 2 == 0 ? 0.0F : -0.0F;
  add("both zeros");
  for (int64_t i = 0; i < n; ++i)
    s[i] = (i * 13 % 5 - 2) * std::numeric_limits<float>::denorm_min();
  add("denormals");
  std::cauchy_distribution<float> cauchy;
  for (float& v : s) v = cauchy(rng);
  add("heavy tails");
  std::fill(s.begin(), s.end(), 0.0F);
  for (int64_t i = n / 2; i < std::min(n, n / 2 + k + 3); ++i) s[i] = 1.0F + i % 2;
  add("one hot stretch");

  TopKCase infinite = scores_case(std::vector<float>(n, 1e30F), k);
  infinite.query_data[0] = -1e30F;  // every score is -inf, and still a result
  infinite.item_data[0] = -1e30F;   // but one, which is +inf
  cases.emplace_back("beyond the range of a float", infinite);
  TopKCase lowest = scores_case(s, k);
  lowest.adjust = {{{0, -1.0F}, {n - 1, -kInf}}};
  cases.emplace_back("adjusted below all others", lowest);
  return cases;
}

// Terms of 2^60 that cancel over a few small ones: what is left depends on the order in which the
// columns are added, in double too.
inline TopKCase order_case(int64_t items, int64_t k, bool adjusted) {
  const int64_t dim = 21;
  Rng rng(5);
  TopKCase c = gaussian_case(5, 2, items, dim, k);
  for (float& v : c.query_data) v = 1.0F;
  std::vector<int64_t> order(dim);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = 0; i < items; ++i) {
    std::shuffle(order.begin(), order.end(), rng);
    float* item = &c.item_data[i * dim];
    for (int64_t j = 0; j < 4; j += 2) {
      item[order[j]] = std::ldexp(item[order[j]], 60);
      item[order[j + 1]] = -item[order[j]];
    }
  }
  if (adjusted) {  // every other item takes the way of the adjusted ones
    c.adjust.resize(2);
    for (int64_t i = 0; i < items; i += 2) c.adjust[1].emplace_back(i, 1.0F);
  }
  return c;
}

inline NamedCases magnitude_cases(int64_t items, int64_t k) {
  NamedCases cases;
  for (const float scale : {1e18F, 1e-18F, 1e-23F, 1e-30F}) {
    TopKCase c = gaussian_case(3, 2, items, 19, k);
    for (float& v : c.query_data) v *= scale;
    for (float& v : c.item_data) v *= scale;
    cases.emplace_back("norms of " + std::to_string(scale), c);
  }
  TopKCase duplicates = gaussian_case(4, 3, items, 12, k);
  for (int64_t i = items / 2; i < items; ++i) {
    for (int64_t j = 0; j < 12; ++j) {
      duplicates.item_data[i * 12 + j] = duplicates.item_data[(i - items / 2) * 12 + j];
    }
  }
  cases.emplace_back("each item twice", duplicates);
  for (const bool adjusted : {false, true}) {
    cases.emplace_back(adjusted ? "order of additions, adjusted" : "order of additions",
                       order_case(items, k, adjusted));
  }
  TopKCase zero = gaussian_case(6, 2, items, 8, k);
  std::fill(zero.query_data.begin(), zero.query_data.begin() + 8, 0.0F);
  cases.emplace_back("a zero query", zero);
  TopKCase broken = gaussian_case(8, 6, items, 9, k);
  broken.query_data[1 * 9 + 8] = std::numeric_limits<float>::quiet_NaN();
  broken.query_data[4 * 9] = -std::numeric_limits<float>::infinity();
  cases.emplace_back("non-finite queries", broken);
  return cases;
}

// Masks, exclusions and adjustments over one set of vectors.
inline NamedCases filter_cases(int64_t batch, int64_t items, int64_t k) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  NamedCases cases;
  Rng rng(11);
  const TopKCase plain = gaussian_case(12, batch, items, 11, k);
  const TopKResult unfiltered = reference(plain);

  for (const double pass : {0.0, 0.01, 0.1, 0.5, 1.0}) {
    TopKCase c = plain;
    c.masks = {random_mask(rng, items, pass)};
    cases.emplace_back("mask passing " + std::to_string(pass), c);
  }
  TopKCase word = plain;  // the bits of the second word alone
  word.masks = {std::vector<bool>(items, false)};
  for (int64_t i = 64; i < std::min<int64_t>(items, 128); ++i) word.masks[0][i] = true;
  cases.emplace_back("mask of one word", word);
  for (const int64_t left : {k, k - 1}) {
    TopKCase c = plain;
    c.masks = {std::vector<bool>(items, false)};
    for (int64_t i = 0; i < std::min(left, items); ++i) c.masks[0][(i * 29 + 5) % items] = true;
    cases.emplace_back("mask of " + std::to_string(left) + " items", c);
  }
  TopKCase several = plain;
  several.masks = {random_mask(rng, items, 0.3), random_mask(rng, items, 0.05),
                   std::vector<bool>(items, false)};
  several.mask_of_row.emplace();  // none passes for the first four rows, which are scored together
  for (int64_t b = 0; b < batch; ++b) {
    several.mask_of_row->push_back(b < 4 && batch > 4 ? 2 : static_cast<int>(b % 4) - 1);
  }
  cases.emplace_back("masks by row", several);

  TopKCase best = plain;  // exactly the answer of the plain problem
  for (int64_t b = 0; b < batch; ++b) {
    best.exclude.emplace_back();
    for (int64_t i = 0; i < unfiltered.count[b]; ++i) {
      best.exclude[b].push_back(unfiltered.ids[b * k + i]);
    }
  }
  cases.emplace_back("the best k excluded", best);
  TopKCase all = plain;
  all.exclude.assign(batch, std::vector<int64_t>(items));
  for (auto& row : all.exclude) std::iota(row.begin(), row.end(), 0);
  cases.emplace_back("all excluded", all);

  TopKCase mixed = several;
  for (int64_t b = 0; b < batch; ++b) {
    mixed.exclude.push_back(random_ids(rng, b % 3 == 0 ? 0 : 40, items));
    mixed.adjust.emplace_back();
    for (const int64_t id : random_ids(rng, b % 2 == 0 ? 60 : 1, items)) {
      const float delta = std::normal_distribution<float>(0.0F, 3.0F)(rng);
      mixed.adjust[b].emplace_back(id, id % 10 == 0 ? -kInf : delta);
      if (id % 3 == 0) mixed.adjust[b].emplace_back(id, -0.5F * delta);
    }
  }
  cases.emplace_back("masks, exclusions and adjustments", mixed);

  TopKCase huge = plain;  // deltas that no float sum could hold, and whose order matters
  huge.adjust.assign(batch, {{0, 3e38F}, {0, 3e38F}});
  for (auto& row : huge.adjust) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      for (const int64_t id : {1, 2, 3}) {
        row.emplace_back(id, repeat == 0 ? 3e38F : repeat == 1 ? -3e38F : 100.0F * id);
      }
    }
  }
  cases.emplace_back("huge deltas", huge);
  return cases;
}

}  // namespace hypertower::testing
