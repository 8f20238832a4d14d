// Lookups and searches whose ids, offsets, masks and deltas were changed at random: each is done as
// the reference does it, or refused with an Error and nothing written. Under ASan and UBSan a read
// out of bounds shows.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "tests/kernels/embedding_oracle.h"
#include "tests/kernels/topk_reference.h"

namespace hypertower {
namespace {

constexpr int kRounds = 3000;

int64_t any_of(std::mt19937& rng, int64_t n) {
  return std::uniform_int_distribution<int64_t>(0, n - 1)(rng);
}

// A value that ids or offsets below `valid` are often confused with.
int64_t odd_value(std::mt19937& rng, int64_t valid) {
  const int64_t values[] = {-1,
                            0,
                            valid - 1,
                            valid,
                            valid + 1,
                            int64_t{1} << 31,
                            int64_t{1} << 32,
                            (int64_t{1} << 32) + 1,
                            std::numeric_limits<int64_t>::max(),
                            std::numeric_limits<int64_t>::min()};
  return values[any_of(rng, std::size(values))];
}

void mutate(std::mt19937& rng, std::vector<int64_t>& values, int64_t valid) {
  if (values.empty()) return;
  for (int64_t i = any_of(rng, 3); i > 0; --i) {
    values[any_of(rng, static_cast<int64_t>(values.size()))] = odd_value(rng, valid);
  }
}

bool sound(const std::vector<int64_t>& offsets, int64_t n) {
  return offsets.front() == 0 && offsets.back() == n &&
         std::is_sorted(offsets.begin(), offsets.end());
}

bool all_within(const std::vector<int64_t>& ids, int64_t rows) {
  return std::all_of(ids.begin(), ids.end(), [&](int64_t id) { return id >= 0 && id < rows; });
}

// Whether `run` ended without an Error; any other exception fails the test.
template <class Run>
bool done(const Run& run) {
  try {
    run();
    return true;
  } catch (const Error& error) {
    EXPECT_FALSE(std::string(error.what()).empty());
    return false;
  }
}

TEST(Mutation, OfLookupsIsDoneOrRefused) {
  std::mt19937 rng(1);
  int refused = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Pool pool = round % 2 == 0 ? Pool::kSum : Pool::kMean;
    test::Lookup lookup = test::make_lookup(20, 5, test::kLengths, pool, round % 3 == 0);
    mutate(rng, lookup.ids, lookup.rows);
    if (round % 5 == 0) mutate(rng, lookup.offsets, lookup.num_ids());
    const BadIds policy = round % 7 == 0 ? BadIds::kDrop : BadIds::kThrow;
    const bool valid = sound(lookup.offsets, lookup.num_ids()) &&
                       (policy == BadIds::kDrop || all_within(lookup.ids, lookup.rows));

    std::vector<float> out(lookup.grad.size(), 7.0F), table = lookup.table, state(20, 0.0F);
    const bool looked_up = done([&] {
      embedding_bag(lookup.table_view(), lookup.bags(), pool, policy,
                    {out.data(), lookup.num_bags(), 5}, {.threads = 1 + round % 2});
    });
    const bool stepped = done([&] {
      const EmbeddingPlan plan(20, lookup.bags(), policy, {.threads = 1 + round % 2});
      embedding_backward({table.data(), 20, 5}, {state.data(), 20, 1}, {}, plan, lookup.bags(),
                         pool, lookup.grad_view(), {}, {});
    });
    ASSERT_EQ(looked_up, valid) << round;
    ASSERT_EQ(stepped, valid) << round;
    if (!valid) {
      ++refused;
      ASSERT_EQ(out, std::vector<float>(out.size(), 7.0F));
      ASSERT_EQ(table, lookup.table);
      continue;
    }
    const std::vector<double> want = test::oracle_forward(lookup);
    test::OracleTable oracle(lookup.table, 5);
    oracle.step(test::oracle_row_gradient(lookup), {});
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], want[i], 1e-5) << round;
    for (size_t i = 0; i < table.size(); ++i) ASSERT_NEAR(table[i], oracle.weight[i], 1e-5);
  }
  EXPECT_GT(refused, kRounds / 10);
  EXPECT_LT(refused, kRounds * 9 / 10);
}

// The lists of ids that lie behind offsets, as PackedCase flattens them.
std::vector<std::vector<int64_t>> lists_of(const std::vector<int64_t>& ids,
                                           const std::vector<int64_t>& offsets) {
  std::vector<std::vector<int64_t>> lists;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    lists.emplace_back(ids.begin() + offsets[b], ids.begin() + offsets[b + 1]);
  }
  return lists;
}

TEST(Mutation, OfSearchesIsDoneOrRefused) {
  using namespace testing;
  constexpr int64_t kBatch = 3, kItems = 150, kBest = 7;
  std::mt19937 rng(2);
  Rng wide(3);
  int refused = 0;
  for (int round = 0; round < kRounds / 3; ++round) {
    TopKCase c = gaussian_case(round, kBatch, kItems, 6, kBest);
    c.masks = {random_mask(wide, kItems, 0.5), random_mask(wide, kItems, 0.1)};
    c.mask_of_row = {{0, -1, 1}};
    if (round % 3 == 0) {
      const int32_t odd[] = {-2, -1, 0, 1, 2, std::numeric_limits<int32_t>::max()};
      (*c.mask_of_row)[any_of(rng, kBatch)] = odd[any_of(rng, std::size(odd))];
    }
    for (int64_t b = 0; b < kBatch; ++b) {
      c.exclude.push_back(random_ids(wide, any_of(rng, 9), kItems));
      c.adjust.emplace_back();
      for (const int64_t id : random_ids(wide, any_of(rng, 5), kItems)) {
        c.adjust[b].emplace_back(id, static_cast<float>(any_of(rng, 9)) - 4.0F);
      }
    }
    PackedCase packed(c);
    mutate(rng, packed.exclude_ids, kItems);
    if (round % 5 == 0) {  // but for the last: it is the only word on how many ids there are
      mutate(rng, packed.exclude_offsets, static_cast<int64_t>(packed.exclude_ids.size()));
      packed.exclude_offsets.back() = static_cast<int64_t>(packed.exclude_ids.size());
    }
    const bool valid =
        sound(packed.exclude_offsets, static_cast<int64_t>(packed.exclude_ids.size())) &&
        all_within(packed.exclude_ids, kItems) &&
        std::all_of(c.mask_of_row->begin(), c.mask_of_row->end(),
                    [](int32_t m) { return m >= -1 && m < 2; });

    TopKResult r;
    r.ids.assign(kBatch * kBest, -77);
    r.scores.assign(kBatch * kBest, 7.0F);
    r.count.assign(kBatch, -77);
    r.status.assign(kBatch, RowStatus::kOk);
    const TopKResult before = r;
    const bool searched = done([&] {
      topk(packed.in,
           {{r.ids.data(), kBatch, kBest},
            {r.scores.data(), kBatch, kBest},
            r.count.data(),
            r.status.data()},
           {.threads = 1 + round % 2});
    });
    ASSERT_EQ(searched, valid) << round;
    if (valid) {
      c.exclude = lists_of(packed.exclude_ids, packed.exclude_offsets);
      expect_same(r, reference(c));
    } else {
      ++refused;
      expect_same(r, before);
    }
  }
  EXPECT_GT(refused, kRounds / 30);
  EXPECT_LT(refused, kRounds * 9 / 30);
}

}  // namespace
}  // namespace hypertower
