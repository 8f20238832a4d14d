// Every way that the CPU top-K can take must give the bits of the reference: each instruction set,
// each route of a mask, guesses that fail, shards, deleted items.
#include <gtest/gtest.h>

#include "kernels/cpu/topk.h"
#include "kernels/cpu/topk_quantized.h"
#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;
using cpu::Int8Tier;
using cpu::MaskRoute;
using cpu::SearchOptions;
using cpu::SearchStats;

// The items of a case in shards of their own memory.
class Shards {
 public:
  Shards(const TopKCase& c, const std::vector<int64_t>& begins, int threads = 2) {
    for (size_t s = 0; s < begins.size(); ++s) {
      const int64_t end = s + 1 < begins.size() ? begins[s + 1] : c.items;
      const MatrixView<const float> rows(c.item_data.data() + begins[s] * c.dim, end - begins[s],
                                         c.dim);
      quantized_.emplace_back(rows, threads);
      shards_.push_back({begins[s], rows, quantized_.back().tiles(), nullptr});
    }
  }
  void set_live(const uint64_t* live) {
    for (cpu::Shard& s : shards_) s.live = live;
  }
  std::span<const cpu::Shard> view() const { return shards_; }

 private:
  std::vector<cpu::QuantizedItems> quantized_;
  std::vector<cpu::Shard> shards_;
};

TopKResult search(const TopKCase& c, const Shards& shards, const SearchOptions& options,
                  SearchStats* stats = nullptr, int threads = 2) {
  PackedCase packed(c);
  packed.in.items.data = nullptr;  // shards have the items
  TopKResult r;
  r.ids.assign(c.batch * c.k, -77);
  r.scores.assign(c.batch * c.k, std::numeric_limits<float>::quiet_NaN());
  r.count.assign(c.batch, -77);
  r.status.assign(c.batch, static_cast<RowStatus>(-77));
  cpu::search(shards.view(), packed.in,
              {{r.ids.data(), c.batch, c.k},
               {r.scores.data(), c.batch, c.k},
               r.count.data(),
               r.status.data()},
              threads, options, stats);
  return r;
}

std::vector<Int8Tier> tiers() {
  std::vector<Int8Tier> all;
  for (const Int8Tier tier :
       {Int8Tier::kNone, Int8Tier::kAvx2, Int8Tier::kAvxVnni, Int8Tier::kAvx512Vnni}) {
    if (cpu::is_offered(tier)) all.push_back(tier);
  }
  return all;
}

// All tiers and routes, guessing from the first tile on and never.
void expect_reference(const TopKCase& c, const std::vector<int64_t>& begins = {0}) {
  const TopKResult expected = reference(c);
  const Shards shards(c, begins);
  for (const Int8Tier tier : tiers()) {
    for (const MaskRoute route : {MaskRoute::kByCost, MaskRoute::kTest, MaskRoute::kPack,
                                  MaskRoute::kPick, MaskRoute::kGather}) {
      if (c.masks.empty() && route != MaskRoute::kByCost) continue;
      for (const int64_t min_guess_tiles : {int64_t{0}, int64_t{1} << 40}) {
        SCOPED_TRACE(::testing::Message()
                     << "tier " << int{static_cast<uint8_t>(tier)} << " route "
                     << int{static_cast<uint8_t>(route)} << " guess from " << min_guess_tiles);
        expect_same(search(c, shards,
                           {.tier = tier,
                            .masks = route,
                            .min_guess_tiles = min_guess_tiles,
                            .min_float_rows = 0}),
                    expected);
      }
    }
  }
}

void expect_reference(const NamedCases& cases) {
  for (const auto& [name, c] : cases) {
    SCOPED_TRACE(name);
    expect_reference(c);
  }
}

TEST(TopKSearch, Shapes) {
  struct Shape {
    int64_t batch, items, dim, k;
  };
  const Shape shapes[] = {{1, 1, 1, 1},       {2, 31, 8, 10},     {3, 129, 12, 300},
                          {4, 300, 21, 10},   {5, 5000, 16, 1},   {1, 4700, 4, 64},
                          {9, 4609, 3, 129},  {17, 431, 65, 30},  {33, 900, 130, 25},
                          {8, 48, 7, 48},     {12, 96, 5, 97},    {6, 10000, 40, 1024},
                          {2, 9217, 257, 40}, {7, 3000, 64, 3000}};
  for (const auto& [batch, items, dim, k] : shapes) {
    SCOPED_TRACE(::testing::Message()
                 << "B " << batch << " N " << items << " D " << dim << " K " << k);
    expect_reference(gaussian_case(batch + dim, batch, items, dim, k));
  }
}

TEST(TopKSearch, HardScores) {
  for (const int64_t n : {200, 5000}) {
    for (const int64_t k : {int64_t{1}, int64_t{20}, n})
      expect_reference(score_pattern_cases(n, k));
  }
}

TEST(TopKSearch, ExtremeMagnitudes) {
  expect_reference(magnitude_cases(130, 10));
  expect_reference(magnitude_cases(6000, 70));
}

TEST(TopKSearch, Filters) {
  expect_reference(filter_cases(20, 700, 30));
  expect_reference(filter_cases(3, 6000, 100));
}

// Magnitudes that no bound covers, next to ordinary ones.
TEST(TopKSearch, WideItemsAndQueries) {
  TopKCase c = gaussian_case(3, 10, 5000, 24, 40);
  for (int64_t j = 0; j < 24; ++j) {
    c.item_data[17 * 24 + j] *= 1e30F;
    c.item_data[4000 * 24 + j] *= 1e-30F;
    c.query_data[2 * 24 + j] *= 1e25F;
    c.query_data[3 * 24 + j] *= 1e-25F;
    c.query_data[4 * 24 + j] = 0.0F;
  }
  expect_reference(c);
  c.masks = {std::vector<bool>(5000, true)};
  expect_reference(c);
}

// int8 bounds say little here: one column is a thousand times the others.
TEST(TopKSearch, OutlierColumns) {
  TopKCase c = gaussian_case(4, 9, 6000, 32, 50);
  for (int64_t i = 0; i < 6000; ++i) c.item_data[i * 32 + 5] *= 1000.0F;
  for (int64_t b = 0; b < 9; b += 2) c.query_data[b * 32 + 5] = 0.0F;
  expect_reference(c);
}

TEST(TopKSearch, ShardsDoNotMatter) {
  TopKCase c = gaussian_case(5, 11, 7000, 20, 60);
  Rng rng(1);
  expect_reference(c, {0, 1, 65, 4000, 6999});
  c.masks = {random_mask(rng, 7000, 0.3)};
  expect_reference(c, {0, 640, 6000});
}

TEST(TopKSearch, DeletedItemsAreGone) {
  TopKCase c = gaussian_case(6, 10, 5000, 16, 30);
  Rng rng(2);
  const std::vector<bool> live = random_mask(rng, 5000, 0.6);
  std::vector<uint64_t> words(79, 0);
  for (int64_t i = 0; i < 5000; ++i) {
    if (live[i]) words[i / 64] |= uint64_t{1} << (i % 64);
  }
  c.adjust.resize(10);
  for (int64_t b = 0; b < 10; ++b) {
    for (const int64_t id : random_ids(rng, 40, 5000)) c.adjust[b].emplace_back(id, 0.5F);
  }
  for (const bool masked : {false, true}) {
    if (masked) c.masks = {random_mask(rng, 5000, 0.5)};
    TopKCase filtered = c;
    filtered.masks = {live};
    if (masked) {
      for (int64_t i = 0; i < 5000; ++i) filtered.masks[0][i] = live[i] && c.masks[0][i];
    }
    const TopKResult expected = reference(filtered);
    Shards shards(c, {0, 2000});
    shards.set_live(words.data());
    for (const MaskRoute route : {MaskRoute::kByCost, MaskRoute::kTest, MaskRoute::kPack,
                                  MaskRoute::kPick, MaskRoute::kGather}) {
      expect_same(search(c, shards, {.masks = route, .min_guess_tiles = 0, .min_float_rows = 0}),
                  expected);
    }
  }
}

// A guess of the best score of the sample is almost always too high.
TEST(TopKSearch, AGuessThatIsTooHighIsRepaired) {
  const TopKCase c = gaussian_case(7, 20, 20000, 32, 100);
  const TopKResult expected = reference(c);
  const Shards shards(c, {0});
  for (const Int8Tier tier : tiers()) {
    SearchStats stats;
    expect_same(search(c, shards, {.tier = tier, .guess_rank = 1, .min_float_rows = 0}, &stats),
                expected);
    EXPECT_GT(stats.repairs, 15);
    stats = {};
    expect_same(search(c, shards, {.tier = tier, .min_float_rows = 0}, &stats), expected);
    EXPECT_EQ(stats.repairs, 0);
  }
}

// A column far from the others, as the bias of a popular item is, costs no digits of the others.
TEST(TopKSearch, ABiasColumnIsBalanced) {
  TopKCase c = gaussian_case(12, 16, 50000, 33, 100);
  Rng rng(4);
  std::exponential_distribution<float> rarity(0.2F);
  for (int64_t i = 0; i < c.items; ++i) {
    c.item_data[i * 33 + 32] = -300.0F - rarity(rng);
    for (int64_t j = 0; j < 32; ++j) c.item_data[i * 33 + j] *= 0.01F;
  }
  for (int64_t b = 0; b < c.batch; ++b) {
    c.query_data[b * 33 + 32] = 1.0F;
    for (int64_t j = 0; j < 32; ++j) c.query_data[b * 33 + j] *= 100.0F;
  }
  const Shards shards(c, {0});
  SearchStats stats;
  expect_same(search(c, shards, {}, &stats), reference(c));
  EXPECT_LT(stats.exact_scores, 16 * 400);
}

// What the guess is for: few items need a second look.
TEST(TopKSearch, FewItemsAreScoredExactly) {
  const TopKCase c = gaussian_case(8, 16, 100000, 64, 100);
  const Shards shards(c, {0});
  SearchStats stats;
  expect_same(search(c, shards, {}, &stats), reference(c));
  EXPECT_LT(stats.candidates, 16 * 1500);
  EXPECT_LT(stats.exact_scores, 16 * 300);
}

// Every item ties with every other: the list of a row stays short all the same, and ids decide.
TEST(TopKSearch, EqualItems) {
  TopKCase c = gaussian_case(9, 3, 30000, 8, 500);
  for (int64_t i = 1; i < c.items; ++i) {
    std::copy_n(c.item_data.begin(), 8, c.item_data.begin() + i * 8);
  }
  expect_reference(c);
}

TEST(TopKSearch, ThreadsDoNotMatter) {
  const TopKCase c = gaussian_case(10, 6, 40000, 12, 80);
  const TopKResult expected = reference(c);
  const Shards shards(c, {0});
  for (const int threads : {1, 2, 3, 7}) {
    expect_same(search(c, shards, {}, nullptr, threads), expected);
  }
}

TEST(TopKSearch, TakesMasksTheCheapWay) {
  TopKCase c = gaussian_case(11, 64, 60000, 64, 10);
  const Shards shards(c, {0});
  Rng rng(3);
  const auto stats_of = [&](double pass, int64_t batch) {
    TopKCase filtered = c;
    filtered.batch = batch;
    filtered.masks = {random_mask(rng, c.items, pass)};
    SearchStats stats;
    expect_same(search(filtered, shards, {}, &stats), reference(filtered));
    return stats;
  };
  EXPECT_EQ(stats_of(0.0005, 64).exact_rows, 64);
  EXPECT_EQ(stats_of(0.1, 64).packed_rows, 64);
  EXPECT_EQ(stats_of(0.5, 1).scanned_rows, 1);

  c.mask_of_row.emplace();
  for (int64_t b = 0; b < c.batch; ++b) {
    c.masks.push_back(random_mask(rng, c.items, 0.01));
    c.mask_of_row->push_back(static_cast<int>(b));
  }
  SearchStats stats;
  expect_same(search(c, shards, {}, &stats), reference(c));
  EXPECT_EQ(stats.picked_rows, 64);
}

}  // namespace
}  // namespace hypertower
