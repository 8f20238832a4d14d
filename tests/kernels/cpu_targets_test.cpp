// Embedding bags and the softmax loss on every SIMD target that this machine can run, not only the
// widest one.
#include <gtest/gtest.h>

#include "hwy/highway.h"
#include "tests/kernels/embedding_oracle.h"
#include "tests/kernels/softmax_loss_oracle.h"

namespace hypertower::test {
namespace {

class CpuTarget : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { choose(GetParam()); }
  void TearDown() override { choose(0); }

 private:
  // 0: whatever the machine supports.
  static void choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(CpuTarget, EmbeddingMatchesOracle) {
  for (int64_t dim : kDims) {
    const Lookup lookup = make_lookup(30, dim, kLengths, Pool::kMean, true);
    std::vector<float> out(lookup.grad.size());
    embedding_bag(lookup.table_view(), lookup.bags(), Pool::kMean, BadIds::kThrow,
                  {out.data(), lookup.num_bags(), dim}, {});
    const std::vector<double> want = oracle_forward(lookup);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], want[i], 2e-5) << dim;

    std::vector<float> table = lookup.table, state(30, 0.0F);
    const EmbeddingPlan plan(30, lookup.bags(), BadIds::kThrow, {});
    embedding_backward({table.data(), 30, dim}, {state.data(), 30, 1}, {}, plan, lookup.bags(),
                       Pool::kMean, lookup.grad_view(), {}, {});
    OracleTable oracle(lookup.table, dim);
    oracle.step(oracle_row_gradient(lookup), {});
    for (size_t i = 0; i < table.size(); ++i) ASSERT_NEAR(table[i], oracle.weight[i], 1e-4) << dim;
  }
}

TEST_P(CpuTarget, SoftmaxLossMatchesOracle) {
  for (int64_t dim : {1, 16, 33, 64, 100}) {
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
}

std::vector<int64_t> supported_targets() {
  std::vector<int64_t> targets;
  for (int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    targets.push_back(left & -left);
  }
  return targets;
}

INSTANTIATE_TEST_SUITE_P(All, CpuTarget, testing::ValuesIn(supported_targets()),
                         [](const auto& info) { return hwy::TargetName(info.param); });

}  // namespace
}  // namespace hypertower::test
