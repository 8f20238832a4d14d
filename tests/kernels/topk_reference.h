// The top-K of kernels/topk.h once more, as plainly as it can be said: score everything, sort, cut.
// Shared by the CPU and the CUDA tests, with the generators of their inputs.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/topk.h"

namespace hypertower::testing {

using Lists = std::vector<std::vector<int64_t>>;

// A problem that owns its arrays; lists and masks are optional.
struct TopKCase {
  int64_t batch = 0;
  int64_t items = 0;
  int64_t dim = 0;
  int64_t k = 1;
  std::vector<float> query_data = {};
  std::vector<float> item_data = {};
  std::vector<std::vector<bool>> masks = {};                        // [M][N]
  std::optional<std::vector<int32_t>> mask_of_row = {};             // [B]
  Lists exclude = {};                                               // [B] or empty
  std::vector<std::vector<std::pair<int64_t, float>>> adjust = {};  // [B] or empty
};

struct TopKResult {
  std::vector<int64_t> ids;
  std::vector<float> scores;
  std::vector<int32_t> count;
  std::vector<RowStatus> status;
};

// `TopKInput` over a case's arrays plus the packed masks and flattened lists that it points to.
// Not copyable: the view points into it. The case must outlive it.
struct PackedCase {
  explicit PackedCase(const TopKCase& c);
  PackedCase(const PackedCase&) = delete;
  PackedCase& operator=(const PackedCase&) = delete;

  TopKInput in;
  std::vector<uint64_t> masks;
  std::vector<int64_t> exclude_ids, exclude_offsets, adjust_ids, adjust_offsets;
  std::vector<float> deltas;
};

inline PackedCase::PackedCase(const TopKCase& c) {
  in.queries = {c.query_data.data(), c.batch, c.dim};
  in.items = {c.item_data.data(), c.items, c.dim};
  in.k = c.k;
  if (!c.masks.empty()) {
    in.num_masks = static_cast<int64_t>(c.masks.size());
    in.mask_words = (c.items + 63) / 64;
    masks.assign(std::max<int64_t>(in.num_masks * in.mask_words, 1), 0);
    for (int64_t m = 0; m < in.num_masks; ++m) {
      for (int64_t i = 0; i < c.items; ++i) {
        if (c.masks[m][i]) masks[m * in.mask_words + i / 64] |= uint64_t{1} << (i % 64);
      }
    }
    in.masks = masks.data();
  }
  if (c.mask_of_row) in.mask_of_row = c.mask_of_row->data();
  if (!c.exclude.empty()) {
    exclude_offsets.push_back(0);
    for (const auto& row : c.exclude) {
      exclude_ids.insert(exclude_ids.end(), row.begin(), row.end());
      exclude_offsets.push_back(static_cast<int64_t>(exclude_ids.size()));
    }
    in.exclude = {exclude_ids.data(), exclude_offsets.data(), c.batch};
  }
  if (!c.adjust.empty()) {
    adjust_offsets.push_back(0);
    for (const auto& row : c.adjust) {
      for (const auto& [id, delta] : row) {
        adjust_ids.push_back(id);
        deltas.push_back(delta);
      }
      adjust_offsets.push_back(static_cast<int64_t>(adjust_ids.size()));
    }
    in.adjust = {adjust_ids.data(), adjust_offsets.data(), c.batch};
    in.adjust_delta = deltas.data();
  }
}

// Runs topk on the CPU over outputs that are filled with garbage first.
inline TopKResult run_cpu(const TopKCase& c, int threads = 1) {
  const PackedCase packed(c);
  TopKResult r;
  r.ids.assign(c.batch * c.k, -77);
  r.scores.assign(c.batch * c.k, std::numeric_limits<float>::quiet_NaN());
  r.count.assign(c.batch, -77);
  r.status.assign(c.batch, static_cast<RowStatus>(-77));
  topk(packed.in,
       {{r.ids.data(), c.batch, c.k},
        {r.scores.data(), c.batch, c.k},
        r.count.data(),
        r.status.data()},
       {.threads = threads});
  return r;
}

// The canonical score, written from the contract and independently of the library.
inline float reference_score(const float* a, const float* b, int64_t dim) {
  std::vector<double> lane(8, 0.0);
  for (int64_t j = 0; j < dim; ++j) {
    lane[j % 8] += static_cast<double>(a[j]) * static_cast<double>(b[j]);
  }
  const double even = (lane[0] + lane[4]) + (lane[2] + lane[6]);
  const double odd = (lane[1] + lane[5]) + (lane[3] + lane[7]);
  const float score = static_cast<float>(even + odd);
  return score == 0.0F ? 0.0F : score;
}

inline TopKResult reference(const TopKCase& c) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  TopKResult r;
  r.ids.assign(c.batch * c.k, -1);
  r.scores.assign(c.batch * c.k, -kInf);
  r.count.assign(c.batch, 0);
  r.status.assign(c.batch, RowStatus::kOk);
  for (int64_t b = 0; b < c.batch; ++b) {
    const float* query = c.query_data.data() + b * c.dim;
    if (!std::all_of(query, query + c.dim, [](float x) { return std::isfinite(x); })) {
      r.status[b] = RowStatus::kNonFiniteQuery;
      continue;
    }
    std::map<int64_t, double> deltas;
    if (!c.adjust.empty()) {
      for (const auto& [id, delta] : c.adjust[b]) deltas[id] += delta;
    }
    if (!c.exclude.empty()) {
      for (const int64_t id : c.exclude[b]) deltas[id] = -kInf;
    }
    const int32_t mask = c.mask_of_row ? (*c.mask_of_row)[b] : c.masks.empty() ? -1 : 0;
    std::vector<std::pair<float, int64_t>> all;
    for (int64_t i = 0; i < c.items; ++i) {
      if (mask >= 0 && !c.masks[mask][i]) continue;
      float score = reference_score(query, c.item_data.data() + i * c.dim, c.dim);
      if (const auto at = deltas.find(i); at != deltas.end()) {
        if (at->second == -kInf) continue;
        score = static_cast<float>(score + at->second);
        if (score == 0.0F) score = 0.0F;
      }
      all.emplace_back(score, i);
    }
    std::sort(all.begin(), all.end(), [](const auto& x, const auto& y) {
      return x.first != y.first ? x.first > y.first : x.second < y.second;
    });
    r.count[b] = static_cast<int32_t>(std::min<int64_t>(c.k, static_cast<int64_t>(all.size())));
    for (int32_t i = 0; i < r.count[b]; ++i) {
      r.scores[b * c.k + i] = all[i].first;
      r.ids[b * c.k + i] = all[i].second;
    }
  }
  return r;
}

inline std::vector<uint32_t> bits(const std::vector<float>& x) {
  std::vector<uint32_t> out;
  for (const float v : x) out.push_back(std::bit_cast<uint32_t>(v));
  return out;
}

// Ids, counts, statuses and the bits of the scores.
inline void expect_same(const TopKResult& got, const TopKResult& expected) {
  EXPECT_EQ(got.count, expected.count);
  EXPECT_EQ(got.status, expected.status);
  EXPECT_EQ(got.ids, expected.ids);
  EXPECT_EQ(bits(got.scores), bits(expected.scores));
}

// ---- Generators. A fixed seed each; `Rng` is a standard engine.

using Rng = std::mt19937_64;

inline std::vector<float> gaussian(Rng& rng, int64_t n, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> x(n);
  for (float& v : x) v = normal(rng);
  return x;
}

inline TopKCase gaussian_case(uint64_t seed, int64_t batch, int64_t items, int64_t dim, int64_t k) {
  Rng rng(seed);
  TopKCase c{.batch = batch, .items = items, .dim = dim, .k = k};
  c.query_data = gaussian(rng, batch * dim);
  c.item_data = gaussian(rng, items * dim);
  return c;
}

// One query (1, 0, ...) so that the first column of the items is the scores.
inline TopKCase scores_case(const std::vector<float>& scores, int64_t k, int64_t dim = 3) {
  const int64_t n = static_cast<int64_t>(scores.size());
  TopKCase c{.batch = 1, .items = n, .dim = dim, .k = k};
  c.query_data.assign(dim, 0.0F);
  c.query_data[0] = 1.0F;
  c.item_data.assign(n * dim, 0.0F);
  for (int64_t i = 0; i < n; ++i) c.item_data[i * dim] = scores[i];
  return c;
}

inline std::vector<bool> random_mask(Rng& rng, int64_t items, double pass) {
  std::bernoulli_distribution coin(pass);
  std::vector<bool> mask(items);
  for (int64_t i = 0; i < items; ++i) mask[i] = coin(rng);
  return mask;
}

inline std::vector<int64_t> random_ids(Rng& rng, int64_t n, int64_t items) {
  std::uniform_int_distribution<int64_t> any(0, items - 1);
  std::vector<int64_t> ids(n);
  for (int64_t& id : ids) id = any(rng);
  return ids;
}

}  // namespace hypertower::testing
