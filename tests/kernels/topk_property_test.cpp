// What must hold between answers of topk, whatever the scores are.
#include "kernels/topk.h"

#include "tests/kernels/simd_targets.h"
#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;

// Coarse values, so that ties abound.
TopKCase tied_case(uint64_t seed, int64_t batch, int64_t items, int64_t dim, int64_t k) {
  TopKCase c = gaussian_case(seed, batch, items, dim, k);
  for (float& v : c.query_data) v = std::round(v);
  for (float& v : c.item_data) v = std::round(v);
  return c;
}

TEST(TopKProperty, PermutingItemsPermutesIds) {
  const TopKCase c = gaussian_case(21, 6, 900, 17, 25);
  std::vector<int64_t> order(900);
  std::iota(order.begin(), order.end(), 0);
  Rng rng(5);
  std::shuffle(order.begin(), order.end(), rng);
  TopKCase permuted = c;
  for (int64_t i = 0; i < 900; ++i) {
    std::copy_n(&c.item_data[order[i] * 17], 17, &permuted.item_data[i * 17]);
  }
  const TopKResult before = run_cpu(c);
  const TopKResult after = run_cpu(permuted);
  EXPECT_EQ(bits(after.scores), bits(before.scores));
  for (size_t i = 0; i < before.ids.size(); ++i) EXPECT_EQ(order[after.ids[i]], before.ids[i]);
}

TEST(TopKProperty, SplittingItemsAndMergingIsTheWhole) {
  const int64_t n = 777, dim = 5, k = 40;
  const TopKCase c = tied_case(22, 3, n, dim, k);
  const TopKResult whole = run_cpu(c);
  for (const int64_t split : {1, 39, 64, 400, 776}) {
    TopKCase left = c, right = c;
    left.items = split;
    left.item_data.resize(split * dim);
    right.items = n - split;
    right.item_data.erase(right.item_data.begin(), right.item_data.begin() + split * dim);
    const TopKResult a = run_cpu(left), b = run_cpu(right);
    for (int64_t row = 0; row < 3; ++row) {
      std::vector<std::pair<float, int64_t>> merged;
      for (int64_t i = 0; i < a.count[row]; ++i) {
        merged.emplace_back(-a.scores[row * k + i], a.ids[row * k + i]);
      }
      for (int64_t i = 0; i < b.count[row]; ++i) {
        merged.emplace_back(-b.scores[row * k + i], b.ids[row * k + i] + split);
      }
      std::sort(merged.begin(), merged.end());
      for (int64_t i = 0; i < k; ++i) EXPECT_EQ(merged[i].second, whole.ids[row * k + i]);
    }
  }
}

TEST(TopKProperty, ARowDoesNotDependOnItsBatch) {
  const TopKCase c = tied_case(23, 13, 600, 12, 20);
  const TopKResult together = run_cpu(c, 2);
  for (int64_t b = 0; b < c.batch; ++b) {
    TopKCase alone = c;
    alone.batch = 1;
    alone.query_data.assign(&c.query_data[b * 12], &c.query_data[b * 12] + 12);
    const TopKResult r = run_cpu(alone);
    EXPECT_TRUE(std::equal(r.ids.begin(), r.ids.end(), together.ids.begin() + b * 20));
  }
}

TEST(TopKProperty, ASmallerKIsAPrefix) {
  TopKCase c = tied_case(24, 4, 500, 6, 500);
  const TopKResult all = run_cpu(c);
  for (const int64_t k : {1, 2, 3, 10, 63, 64, 65, 499}) {
    c.k = k;
    const TopKResult r = run_cpu(c);
    for (int64_t b = 0; b < 4; ++b) {
      EXPECT_TRUE(std::equal(&r.ids[b * k], &r.ids[b * k] + k, &all.ids[b * 500])) << k;
    }
  }
}

TEST(TopKProperty, ThreadsDoNotMatter) {
  const TopKCase few_items = tied_case(25, 40, 300, 9, 30);
  const TopKCase many_items = tied_case(26, 5, 40000, 9, 30);
  for (const TopKCase& c : {few_items, many_items}) {
    const TopKResult one = run_cpu(c, 1);
    for (const int threads : {2, 3, 5, 8, 16}) expect_same(run_cpu(c, threads), one);
  }
}

TEST(TopKProperty, FilteredItemsNeverAppear) {
  for (const auto& [name, c] : filter_cases(8, 400, 60)) {
    SCOPED_TRACE(name);
    const TopKResult r = run_cpu(c);
    for (int64_t b = 0; b < c.batch; ++b) {
      const int32_t mask = c.mask_of_row ? (*c.mask_of_row)[b] : c.masks.empty() ? -1 : 0;
      std::set<int64_t> seen;
      for (int64_t i = 0; i < r.count[b]; ++i) {
        const int64_t id = r.ids[b * c.k + i];
        EXPECT_TRUE(seen.insert(id).second) << "twice: " << id;
        EXPECT_TRUE(mask < 0 || c.masks[mask][id]);
        EXPECT_TRUE(c.exclude.empty() || std::ranges::count(c.exclude[b], id) == 0);
      }
    }
  }
}

// The exclusion of the answer leaves what the longer answer holds behind it.
TEST(TopKProperty, ExcludingTheAnswerYieldsTheNext) {
  TopKCase c = tied_case(27, 5, 800, 7, 30);
  const TopKResult thirty = run_cpu(c);
  c.k = 15;
  for (int64_t b = 0; b < 5; ++b) {
    c.exclude.emplace_back(&thirty.ids[b * 30], &thirty.ids[b * 30] + 15);
  }
  const TopKResult next = run_cpu(c);
  for (int64_t b = 0; b < 5; ++b) {
    EXPECT_TRUE(std::equal(&next.ids[b * 15], &next.ids[b * 15] + 15, &thirty.ids[b * 30 + 15]));
  }
}

TEST(TopKProperty, AnExclusionIsAnAdjustmentOfMinusInfinity) {
  TopKCase excluded = tied_case(28, 3, 300, 7, 20);
  TopKCase adjusted = excluded;
  Rng rng(1);
  for (int64_t b = 0; b < 3; ++b) {
    excluded.exclude.push_back(random_ids(rng, 100, 300));
    adjusted.adjust.emplace_back();
    for (const int64_t id : excluded.exclude[b]) {
      adjusted.adjust[b].emplace_back(id, -std::numeric_limits<float>::infinity());
    }
  }
  expect_same(run_cpu(adjusted), run_cpu(excluded));
}

TEST(TopKProperty, EveryInstructionSetGivesTheSameBits) {
  for (const int64_t dim : {1, 5, 8, 13, 40, 131}) {
    const TopKCase c = gaussian_case(31, 7, 110, dim, 110);
    const TopKResult expected = reference(c);
    for_each_simd_target([&] { expect_same(run_cpu(c), expected); });
  }
}

}  // namespace
}  // namespace hypertower
