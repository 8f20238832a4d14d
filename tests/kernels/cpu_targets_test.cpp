// Embedding bags and the softmax loss on every SIMD target that this machine can run, not only the
// widest one.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace hypertower::test
