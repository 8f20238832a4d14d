// The index of prepared items: what is appended, removed, taken over from a file, refused.
#include "kernels/topk_index.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>

#include "kernels/cpu/topk_quantized.h"
#include "kernels/error.h"
#include "tests/kernels/topk_cases.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

using namespace testing;

TopKResult search(const TopKIndex& index, const TopKCase& c, int threads = 2) {
  PackedCase packed(c);
  packed.in.items = {};
  TopKResult r;
  r.ids.assign(c.batch * c.k, -77);
  r.scores.assign(c.batch * c.k, 0.0F);
  r.count.assign(c.batch, -77);
  r.status.assign(c.batch, static_cast<RowStatus>(-77));
  index.search(packed.in,
               {{r.ids.data(), c.batch, c.k},
                {r.scores.data(), c.batch, c.k},
                r.count.data(),
                r.status.data()},
               {.threads = threads});
  return r;
}

MatrixView<const float> rows_of(const TopKCase& c, int64_t begin, int64_t end) {
  return {c.item_data.data() + begin * c.dim, end - begin, c.dim};
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(TopKIndex, AgreesWithTheReference) {
  for (const auto& [name, c] : filter_cases(5, 900, 40)) {
    SCOPED_TRACE(name);
    const TopKIndex index = TopKIndex::build(rows_of(c, 0, c.items), nullptr, 2);
    expect_same(search(index, c), reference(c));
  }
}

TEST(TopKIndex, EveryFirstPassGivesTheSame) {
  const TopKCase c = gaussian_case(1, 20, 3000, 30, 25);
  const TopKResult expected = reference(c);
  for (const auto pass :
       {TopKIndex::FirstPass::kAuto, TopKIndex::FirstPass::kInt8, TopKIndex::FirstPass::kFloat}) {
    expect_same(search(TopKIndex::build(rows_of(c, 0, c.items), nullptr, 2, pass), c), expected);
  }
}

// A random walk of additions and removals, against the same search with a mask.
TEST(TopKIndex, FollowsAdditionsAndRemovals) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Rng rng(seed);
    TopKCase c = gaussian_case(seed, 6, 3000, 14, 50);
    int64_t size = seed == 0 ? 0 : 1000;
    TopKIndex index = TopKIndex::build(rows_of(c, 0, size), nullptr, 2);
    std::vector<bool> live(3000, false);
    std::fill_n(live.begin(), size, true);
    for (int step = 0; step < 40; ++step) {
      const TopKIndex before = index;
      if (step % 2 == 0) {
        const int64_t more = std::min<int64_t>(3000 - size, 1 + static_cast<int64_t>(rng() % 120));
        index = index.appended(rows_of(c, size, size + more), nullptr, 2);
        std::fill_n(live.begin() + size, more, true);
        size += more;
      } else {
        const std::vector<int64_t> gone = random_ids(rng, 10, size);
        index = index.without(gone);
        for (const int64_t id : gone) live[id] = false;
      }
      EXPECT_LE(before.size(), index.size());
    }
    TopKCase now = c;
    now.items = size;
    now.item_data.resize(size * c.dim);
    live.resize(size);
    now.masks = {live};
    TopKCase asked = now;
    asked.masks.clear();
    EXPECT_EQ(index.size(), size);
    EXPECT_EQ(index.num_live(), std::count(live.begin(), live.end(), true));
    expect_same(search(index, asked), reference(now));
    for (int64_t id = 0; id < size; id += 97) {
      EXPECT_EQ(index.is_live(id), live[id]);
      EXPECT_EQ(0, std::memcmp(index.row(id), &now.item_data[id * c.dim], c.dim * 4));
    }
  }
}

TEST(TopKIndex, ASnapshotStaysWhatItIs) {
  const TopKCase c = gaussian_case(3, 4, 500, 8, 10);
  const TopKIndex index = TopKIndex::build(rows_of(c, 0, 400), nullptr, 1);
  const TopKIndex changed =
      index.appended(rows_of(c, 400, 500), nullptr, 1).without(std::vector<int64_t>{0, 1, 2});
  TopKCase first = c;
  first.items = 400;
  first.item_data.resize(400 * 8);
  expect_same(search(index, first), reference(first));
  EXPECT_EQ(changed.size(), 500);
  EXPECT_EQ(changed.num_live(), 497);
}

TEST(TopKIndex, KeepsItsOwnersAlive) {
  const TopKCase c = gaussian_case(4, 3, 300, 9, 20);
  TopKIndex index;
  {
    auto owner = std::make_shared<std::vector<float>>(c.item_data);
    index = TopKIndex::build({owner->data(), c.items, c.dim}, owner, 1);
  }
  expect_same(search(index, c), reference(c));
}

TEST(TopKIndex, MemoryPerItem) {
  const TopKCase c = gaussian_case(5, 1, 100000, 64, 1);
  const TopKIndex index = TopKIndex::build(rows_of(c, 0, c.items), nullptr, 2);
  EXPECT_LT(index.bytes(), c.items * (64 + 8 + 1));
}

TEST(TopKIndex, TakesFloatsWhereInt8SaysLittle) {
  TopKCase c = gaussian_case(6, 3, 5000, 16, 10);
  EXPECT_GT(TopKIndex::build(rows_of(c, 0, c.items), nullptr, 1).tiles().tiles, 0);
  Rng rng(7);
  std::cauchy_distribution<float> cauchy;
  for (float& x : c.item_data) x = std::pow(cauchy(rng), 3.0F);
  for (float& x : c.query_data) x = cauchy(rng);
  const TopKIndex index = TopKIndex::build(rows_of(c, 0, c.items), nullptr, 1);
  EXPECT_EQ(index.tiles().tiles, 0);
  expect_same(search(index, c), reference(c));
  const TopKIndex more = index.appended(rows_of(c, 0, 5000), nullptr, 1);
  EXPECT_EQ(more.size(), 10000);
}

TEST(TopKIndex, TakesTilesOver) {
  const TopKCase c = gaussian_case(8, 20, 700, 13, 10);
  const cpu::QuantizedItems made(rows_of(c, 0, c.items), 1);
  ASSERT_TRUE(tiles_are_sound(made.tiles(), c.items, c.dim));
  const TopKIndex index = TopKIndex::from_tiles(rows_of(c, 0, c.items), made.tiles(), nullptr);
  expect_same(search(index, c), reference(c));
}

TEST(TopKIndex, RefusesUnsoundTiles) {
  const TopKCase c = gaussian_case(9, 1, 100, 6, 1);
  const cpu::QuantizedItems made(rows_of(c, 0, c.items), 1);
  const cpu::Tiles good = made.tiles();
  std::vector<cpu::Slot> slots(good.slots, good.slots + good.tiles * cpu::kTileItems);
  std::vector<cpu::TileBounds> bounds(good.bounds, good.bounds + good.tiles);
  std::vector<float> center(good.center, good.center + 6), weight(good.weight, good.weight + 6);
  cpu::Tiles t = good;
  t.slots = slots.data();
  t.bounds = bounds.data();
  t.center = center.data();
  t.weight = weight.data();
  ASSERT_TRUE(tiles_are_sound(t, 100, 6));
  EXPECT_FALSE(tiles_are_sound(t, 200, 6));
  EXPECT_FALSE(tiles_are_sound(t, 100, 9));
  const auto refused = [&](auto& place, auto value) {
    const auto before = place;
    place = value;
    EXPECT_FALSE(tiles_are_sound(t, 100, 6));
    place = before;
  };
  const float nan = std::nanf("");
  refused(slots[3].item, uint32_t{100});
  refused(slots[3].item, slots[4].item);
  refused(slots[143].item, uint32_t{7});
  refused(slots[0].scale, nan);
  refused(slots[0].scale, -1.0F);
  refused(bounds[1].max_residual, nan);
  refused(bounds[1].max_norm, INFINITY);
  refused(bounds[1].min_inverse_scale, 0.0F);
  refused(bounds[1].max_inverse_scale, 0.0F);
  refused(center[2], nan);
  refused(weight[2], 3.0F);
  refused(weight[2], 0.0F);
  refused(weight[2], 0x1p90F);
  ASSERT_TRUE(tiles_are_sound(t, 100, 6));
}

// The items of a block lie in its tiles: who looks for them looks nowhere else.
TEST(TopKIndex, TilesHoldTheItemsOfTheirBlock) {
  const TopKCase c = gaussian_case(9, 1, 2 * cpu::kBlockItems, 4, 1);
  const cpu::QuantizedItems made(rows_of(c, 0, c.items), 1);
  cpu::Tiles t = made.tiles();
  std::vector<cpu::Slot> slots(t.slots, t.slots + t.tiles * cpu::kTileItems);
  t.slots = slots.data();
  ASSERT_TRUE(tiles_are_sound(t, c.items, 4));
  const auto other = std::find_if(slots.begin(), slots.end(), [&](const cpu::Slot& s) {
    return s.item / cpu::kBlockItems != slots[0].item / cpu::kBlockItems;
  });
  std::swap(slots[0], *other);
  EXPECT_FALSE(tiles_are_sound(t, c.items, 4));
}

TEST(TopKIndexError, OneSentenceEach) {
  TopKCase c = gaussian_case(10, 2, 50, 4, 3);
  const TopKIndex index = TopKIndex::build(rows_of(c, 0, 50), nullptr, 1);
  EXPECT_EQ(error_of([&] {
              index.without(std::vector<int64_t>{3, 50});
            }),
            "index: expected item ids in [0, 50) to remove, got 50.");
  EXPECT_EQ(error_of([&] {
              index.appended({c.item_data.data(), 10, 3}, nullptr, 1);
            }),
            "index: expected items of 4 columns, as those before, got 3.");
  TopKCase narrow = gaussian_case(10, 2, 50, 3, 3);
  EXPECT_EQ(error_of([&] { search(index, narrow); }),
            "topk: expected items of 3 columns, as the queries have, got 4; use queries and items "
            "of one model.");
  TopKCase listed = c;
  listed.exclude = {{1}, {50}};
  EXPECT_EQ(error_of([&] { search(index, listed); }),
            "topk: expected item ids in [0, 50) in exclude, got 50 at row 1, position 0; leave out "
            "items that the index does not hold.");
  c.item_data[7 * 4 + 2] = std::nanf("");
  EXPECT_EQ(error_of([&] { TopKIndex::build(rows_of(c, 0, 50), nullptr, 2); }),
            "index: expected finite numbers, got NaN or infinity in row 7 of the items; leave that "
            "item out.");
  PackedCase packed(listed);
  EXPECT_EQ(error_of([&] { index.search(packed.in, {}, {.device = DeviceType::kCuda}); }),
            "index: expected the CPU, got a CUDA device; pass queries in host memory, or use topk "
            "with items on the device.");
}

TEST(TopKIndex, NothingFromNothing) {
  const TopKIndex none = TopKIndex::build({nullptr, 0, 5}, nullptr, 1);
  TopKCase c = gaussian_case(11, 2, 0, 5, 3);
  expect_same(search(none, c), reference(c));
  TopKCase no_rows = gaussian_case(11, 0, 20, 5, 3);
  expect_same(search(TopKIndex::build(rows_of(no_rows, 0, 20), nullptr, 1), no_rows),
              reference(no_rows));
}

}  // namespace
}  // namespace hypertower
