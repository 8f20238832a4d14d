// Embedding bags, the softmax loss and the packing of top-K on every SIMD target that this machine
// can run, not only the widest one.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "kernels/cpu/topk_pack.h"
#include "tests/kernels/embedding_oracle.h"
#include "tests/kernels/simd_targets.h"
#include "tests/kernels/softmax_loss_oracle.h"

namespace hypertower::test {
namespace {

using hypertower::testing::for_each_simd_target;

void expect_embedding_oracle(int64_t dim) {
  const Lookup lookup = make_lookup(30, dim, kLengths, Pool::kMean, true);
  std::vector<float> out(lookup.grad.size());
  embedding_bag(lookup.table_view(), lookup.bags(), Pool::kMean, BadIds::kThrow,
                {out.data(), lookup.num_bags(), dim}, {});
  const std::vector<double> want = oracle_forward(lookup);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], want[i], 2e-5) << dim;

  for (Optimizer kind : {Optimizer::kSgd, Optimizer::kRowWiseAdagrad, Optimizer::kAdam}) {
    std::vector<float> table = lookup.table, state0(30 * dim, 0.0F), state1(30 * dim, 0.0F);
    const int64_t state_dim = kind == Optimizer::kAdam ? dim : 1;
    const EmbeddingPlan plan(30, lookup.bags(), BadIds::kThrow, {});
    embedding_backward({table.data(), 30, dim}, {state0.data(), 30, state_dim},
                       {state1.data(), 30, dim}, plan, lookup.bags(), Pool::kMean,
                       lookup.grad_view(), {.kind = kind}, {});
    OracleTable oracle(lookup.table, dim);
    oracle.step(oracle_row_gradient(lookup), {.kind = kind});
    for (size_t i = 0; i < table.size(); ++i) ASSERT_NEAR(table[i], oracle.weight[i], 1e-4) << dim;
  }
}

void expect_softmax_loss_oracle(int64_t dim) {
  LossCase c = make_loss_case(70, 300, dim);
  add_everything(c);
  std::vector<float> loss(70), log_z(70), d_query(70 * dim), d_column(300 * dim);
  softmax_loss_forward(c.input(), loss.data(), log_z.data(), {});
  softmax_loss_backward(c.input(), log_z.data(), c.grad_loss.data(), {d_query.data(), 70, dim},
                        {d_column.data(), 300, dim}, nullptr, {});
  const LossOracle want = softmax_loss_oracle(c);
  for (size_t i = 0; i < loss.size(); ++i) ASSERT_NEAR(loss[i], want.loss[i], 1e-4);
  for (size_t i = 0; i < d_query.size(); ++i) ASSERT_NEAR(d_query[i], want.d_query[i], 1e-4);
  for (size_t i = 0; i < d_column.size(); ++i) ASSERT_NEAR(d_column[i], want.d_column[i], 1e-4);
}

TEST(CpuTargets, EmbeddingMatchesOracle) {
  for_each_simd_target([] {
    for (int64_t dim : kDims) expect_embedding_oracle(dim);
  });
}

TEST(CpuTargets, SoftmaxLossMatchesOracle) {
  for_each_simd_target([] {
    for (int64_t dim : {1, 16, 33, 64, 100}) expect_softmax_loss_oracle(dim);
  });
}

void expect_packed_lanes(std::mt19937_64& rng, double share, int64_t steps) {
  constexpr uint32_t kBefore = 0xABCDEF01;
  std::bernoulli_distribution passes(share);
  std::vector<uint32_t> tile(steps * cpu::kTileItems);
  std::iota(tile.begin(), tile.end(), 1U);
  std::vector<int> want;
  uint64_t lanes = 0;
  for (int i = 0; i < cpu::kTileItems; ++i) {
    if (!passes(rng)) continue;
    lanes |= uint64_t{1} << i;
    want.push_back(i);
  }
  const int count = static_cast<int>(want.size());
  const int place = std::uniform_int_distribution<int>(0, cpu::kTileItems - count)(rng);
  std::vector<uint32_t> to(tile.size() + 1, kBefore);
  const auto* bytes = reinterpret_cast<const uint8_t*>(tile.data());
  cpu::pack_lanes({bytes, lanes}, {bytes, rng()}, steps, reinterpret_cast<uint8_t*>(to.data()),
                  place);
  for (int64_t k = 0; k < steps; ++k) {
    const uint32_t* step = to.data() + k * cpu::kTileItems;
    for (int i = 0; i < place; ++i) ASSERT_EQ(step[i], kBefore) << "lane " << i;
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(step[place + i], tile[k * cpu::kTileItems + want[i]]) << "lane " << place + i;
    }
  }
  ASSERT_EQ(to.back(), kBefore) << "past the end";
}

TEST(CpuTargets, PacksLanes) {
  for_each_simd_target([] {
    std::mt19937_64 rng(1);
    for (const double share : {0.0, 0.02, 0.5, 0.95, 1.0}) {
      for (int repeat = 0; repeat < 200; ++repeat) {
        ASSERT_NO_FATAL_FAILURE(expect_packed_lanes(rng, share, 1 + repeat % 5));
      }
    }
  });
}

TEST(CpuTargets, LowestBits) {
  EXPECT_EQ(cpu::lowest_bits(0b1011'0100, 2), 0b0001'0100U);
  EXPECT_EQ(cpu::lowest_bits(0b1011'0100, 9), 0b1011'0100U);
  EXPECT_EQ(cpu::lowest_bits(0b1011'0100, 0), 0U);
}

}  // namespace
}  // namespace hypertower::test
