// Plans, gradients and fused optimizers of embedding bags.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "tests/kernels/embedding_oracle.h"

namespace hypertower::test {
namespace {

std::vector<float> row_gradient(const Lookup& lookup, const EmbeddingPlan& plan,
                                const Exec& exec = {}) {
  std::vector<float> out(plan.unique_rows() * lookup.dim);
  embedding_row_gradient(plan, lookup.bags(), lookup.pool, lookup.grad_view(),
                         {out.data(), plan.unique_rows(), lookup.dim}, exec);
  return out;
}

// A table and the state of any optimizer, in the kernel's float.
struct Trained {
  std::vector<float> table, state0, state1;
  int64_t rows, dim;

  explicit Trained(const Lookup& lookup)
      : table(lookup.table),
        state0(lookup.table.size(), 0.0F),
        state1(lookup.table.size(), 0.0F),
        rows(lookup.rows),
        dim(lookup.dim) {}

  MatrixView<float> table_view() { return {table.data(), rows, dim}; }
  MatrixView<float> state0_view(Optimizer kind) {
    return {state0.data(), rows, state0_cols(kind, dim)};
  }
  MatrixView<float> state1_view() { return {state1.data(), rows, dim}; }

  void step(const Lookup& lookup, const EmbeddingPlan& plan, const OptimizerStep& s,
            const Exec& exec = {}) {
    embedding_backward(table_view(), state0_view(s.kind), state1_view(), plan, lookup.bags(),
                       lookup.pool, lookup.grad_view(), s, exec);
  }
  bool operator==(const Trained&) const = default;
};

TEST(EmbeddingPlan, ListsTouchedRowsOnceAscending) {
  const Lookup lookup{9,         1, Pool::kSum, std::vector<float>(9), {}, {7, 3, 7, 0, 3, 8},
                      {0, 2, 6}, {}};
  const EmbeddingPlan plan(9, lookup.bags(), BadIds::kThrow, {});
  EXPECT_EQ(std::vector<int64_t>(plan.rows(), plan.rows() + plan.unique_rows()),
            (std::vector<int64_t>{0, 3, 7, 8}));
}

TEST(EmbeddingPlan, SortsIdsOfEveryNumberOfBits) {
  for (int64_t rows : {int64_t{1}, int64_t{2}, int64_t{2048}, int64_t{2049}, int64_t{1} << 22,
                       (int64_t{1} << 33) + 5, int64_t{1} << 40}) {
    Lookup lookup = make_lookup(0, 1, {3000, 0, 3000}, Pool::kSum, true);
    std::mt19937_64 rng(7);
    for (int64_t& id : lookup.ids) id = static_cast<int64_t>(rng() % rows);
    lookup.ids[17] = rows - 1;
    std::vector<int64_t> want = lookup.ids;
    std::sort(want.begin(), want.end());
    want.erase(std::unique(want.begin(), want.end()), want.end());
    const EmbeddingPlan plan(rows, lookup.bags(), BadIds::kThrow, {});
    EXPECT_EQ(std::vector<int64_t>(plan.rows(), plan.rows() + plan.unique_rows()), want) << rows;
  }
}

TEST(EmbeddingPlan, RefusesKeysBeyond64Bits) {
  const Lookup lookup = make_lookup(4, 1, {4, 4, 4}, Pool::kSum, false);
  EXPECT_NO_THROW(EmbeddingPlan((int64_t{1} << 62), lookup.bags(), BadIds::kThrow, {}));
  EXPECT_THROW(EmbeddingPlan((int64_t{1} << 62) + 1, lookup.bags(), BadIds::kThrow, {}), Error);
}

TEST(EmbeddingRowGradient, MatchesOracleForEveryWidthPoolAndWeights) {
  for (int64_t dim : kDims) {
    for (Pool pool : {Pool::kSum, Pool::kMean}) {
      for (bool weighted : {false, true}) {
        const Lookup lookup = make_lookup(30, dim, kLengths, pool, weighted);
        const EmbeddingPlan plan(lookup.rows, lookup.bags(), BadIds::kThrow, {});
        const std::vector<float> got = row_gradient(lookup, plan);
        const auto want = oracle_row_gradient(lookup);
        ASSERT_EQ(plan.unique_rows(), static_cast<int64_t>(want.size()));
        int64_t run = 0;
        for (const auto& [row, gradient] : want) {
          ASSERT_EQ(plan.rows()[run], row);
          for (int64_t j = 0; j < dim; ++j) {
            ASSERT_NEAR(got[run * dim + j], gradient[j], 1e-5 * (1 + std::abs(gradient[j])))
                << "dim " << dim << " row " << row << " column " << j;
          }
          ++run;
        }
      }
    }
  }
}

// The loss <grad, forward> is linear in every argument, so a central difference has no error but
// rounding.
TEST(EmbeddingGradients, MatchFiniteDifferencesOfTheOracle) {
  for (Pool pool : {Pool::kSum, Pool::kMean}) {
    const Lookup lookup = make_lookup(6, 5, {3, 0, 4, 1}, pool, true);
    const auto loss = [](const Lookup& l) {
      const std::vector<double> out = oracle_forward(l);
      double sum = 0.0;
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * l.grad[i];
      return sum;
    };
    const auto derivative = [&](const auto& at) {
      Lookup up = lookup, down = lookup;
      at(up) += 0.5F;
      at(down) -= 0.5F;
      return loss(up) - loss(down);
    };
    const EmbeddingPlan plan(lookup.rows, lookup.bags(), BadIds::kThrow, {});
    const std::vector<float> rows = row_gradient(lookup, plan);
    for (int64_t run = 0; run < plan.unique_rows(); ++run) {
      for (int64_t j = 0; j < 5; ++j) {
        const double want =
            derivative([&](Lookup& l) -> float& { return l.table[plan.rows()[run] * 5 + j]; });
        EXPECT_NEAR(rows[run * 5 + j], want, 1e-5);
      }
    }
    std::vector<float> weights(lookup.ids.size());
    embedding_weight_gradient(lookup.table_view(), lookup.bags(), pool, lookup.grad_view(),
                              weights.data(), {});
    for (size_t e = 0; e < weights.size(); ++e) {
      EXPECT_NEAR(weights[e], derivative([&](Lookup& l) -> float& { return l.weights[e]; }), 1e-5);
    }
  }
}

TEST(EmbeddingWeightGradient, IsZeroAtBadIdsAndMatchesOracleElsewhere) {
  for (int64_t dim : kDims) {
    Lookup lookup = make_lookup(30, dim, kLengths, Pool::kMean, false);
    lookup.ids[4] = -1;
    lookup.ids[90] = int64_t{1} << 32;
    std::vector<float> got(lookup.ids.size(), -7.0F);
    embedding_weight_gradient(lookup.table_view(), lookup.bags(), lookup.pool, lookup.grad_view(),
                              got.data(), {});
    const std::vector<double> want = oracle_weight_gradient(lookup);
    for (size_t e = 0; e < got.size(); ++e) ASSERT_NEAR(got[e], want[e], 1e-4) << dim << " " << e;
    EXPECT_EQ(got[4], 0.0F);
  }
}

TEST(EmbeddingBackward, HundredStepsOfEveryOptimizerFollowTheFormulas) {
  for (Optimizer kind : kOptimizers) {
    for (float decay : {0.0F, 0.1F}) {
      for (int64_t dim : {1, 7, 24, 64}) {
        Lookup lookup = make_lookup(40, dim, {3, 0, 9, 1, 20}, Pool::kMean, true);
        Trained trained(lookup);
        OracleTable oracle(lookup.table, dim);
        OptimizerStep step{kind, 0.05F, 1e-6F, 0.9F, 0.99F, decay, 0};
        for (step.step = 1; step.step <= 100; ++step.step) {
          const Lookup next = make_lookup(40, dim, {3, 0, 9, 1, 20}, Pool::kMean, true, step.step);
          lookup.ids = next.ids;
          lookup.grad = next.grad;
          lookup.weights = next.weights;
          trained.step(lookup, {40, lookup.bags(), BadIds::kThrow, {}}, step);
          oracle.step(oracle_row_gradient(lookup), step);
        }
        for (size_t i = 0; i < trained.table.size(); ++i) {
          ASSERT_NEAR(trained.table[i], oracle.weight[i], 2e-4)
              << "optimizer " << static_cast<int>(kind) << " dim " << dim << " element " << i;
        }
      }
    }
  }
}

TEST(EmbeddingBackward, FusedStepEqualsUnfusedGradientAndRowUpdateBitForBit) {
  for (Optimizer kind : kOptimizers) {
    for (int64_t dim : kDims) {
      const Lookup lookup = make_lookup(60, dim, kLengths, Pool::kMean, true);
      const EmbeddingPlan plan(60, lookup.bags(), BadIds::kThrow, {});
      const OptimizerStep step{kind, 0.1F, 1e-8F, 0.9F, 0.999F, 0.01F, 3};
      Trained fused(lookup), unfused(lookup);
      fused.step(lookup, plan, step);
      const std::vector<float> gradient = row_gradient(lookup, plan);
      apply_row_gradient(unfused.table_view(), unfused.state0_view(kind), unfused.state1_view(),
                         plan.rows(), {gradient.data(), plan.unique_rows(), dim}, step, {});
      EXPECT_TRUE(fused == unfused) << "optimizer " << static_cast<int>(kind) << " dim " << dim;
    }
  }
}

TEST(EmbeddingBackward, AnyNumberOfThreadsGivesTheSameBits) {
  // One hot row, many cold ones; enough ids for the sort to split its passes.
  Lookup lookup = make_lookup(5000, 33, std::vector<int64_t>(3000, 41), Pool::kSum, true);
  for (size_t e = 0; e < lookup.ids.size(); e += 3) lookup.ids[e] = 77;
  for (Optimizer kind : kOptimizers) {
    const auto run = [&](int threads) {
      const Exec exec{DeviceType::kCpu, threads};
      Trained trained(lookup);
      trained.step(lookup, {5000, lookup.bags(), BadIds::kThrow, exec}, {.kind = kind}, exec);
      return trained;
    };
    const Trained one = run(1);
    for (int threads : {2, 3, 7}) EXPECT_TRUE(run(threads) == one) << threads;
  }
}

TEST(EmbeddingBackward, DroppedIdsAndUntouchedRowsLeaveTheTableAlone) {
  Lookup lookup = make_lookup(50, 8, {2, 3}, Pool::kSum, false);
  lookup.ids = {4, -1, 50, 4, int64_t{1} << 32};
  for (Optimizer kind : kOptimizers) {
    Trained trained(lookup);
    const EmbeddingPlan plan(50, lookup.bags(), BadIds::kDrop, {});
    EXPECT_EQ(plan.report().dropped, 3);
    EXPECT_EQ(plan.unique_rows(), 1);
    trained.step(lookup, plan, {.kind = kind, .weight_decay = 0.5F});
    for (int64_t i = 0; i < 50 * 8; ++i) {
      if (i / 8 == 4) {
        EXPECT_NE(trained.table[i], lookup.table[i]);
      } else {
        EXPECT_EQ(trained.table[i], lookup.table[i]);
      }
    }
  }
}

TEST(EmbeddingBackward, IdsMayChangeAfterThePlanWasBuilt) {
  Lookup lookup = make_lookup(50, 8, {20, 30}, Pool::kSum, false);
  const EmbeddingPlan plan(50, lookup.bags(), BadIds::kThrow, {});
  Trained before(lookup), after(lookup);
  before.step(lookup, plan, {});
  std::fill(lookup.ids.begin(), lookup.ids.end(), int64_t{1} << 50);
  after.step(lookup, plan, {});
  EXPECT_TRUE(before == after);
}

TEST(EmbeddingBackward, EmptyLookupsChangeNothing) {
  for (const std::vector<int64_t>& lengths : {std::vector<int64_t>{}, std::vector<int64_t>{0, 0}}) {
    const Lookup lookup = make_lookup(5, 3, lengths, Pool::kMean, false);
    Trained trained(lookup);
    const EmbeddingPlan plan(5, lookup.bags(), BadIds::kThrow, {});
    EXPECT_EQ(plan.unique_rows(), 0);
    trained.step(lookup, plan, {});
    EXPECT_EQ(trained.table, lookup.table);
  }
}

TEST(EmbeddingBackward, WrongPlanStateOrStepIsAnError) {
  const Lookup lookup = make_lookup(10, 4, {2, 3}, Pool::kSum, false);
  const Lookup other = make_lookup(10, 4, {2, 4}, Pool::kSum, false);
  const EmbeddingPlan plan(10, lookup.bags(), BadIds::kThrow, {});
  Trained trained(lookup);
  EXPECT_THROW(trained.step(other, plan, {}), Error);
  EXPECT_THROW(trained.step(lookup, plan, {.kind = Optimizer::kAdam, .step = 0}), Error);
  const auto step_with = [&](MatrixView<float> table, MatrixView<float> state) {
    embedding_backward(table, state, {}, plan, lookup.bags(), Pool::kSum, lookup.grad_view(), {},
                       {});
  };
  EXPECT_THROW(step_with(trained.table_view(), {}), Error);
  EXPECT_THROW(step_with(trained.table_view(), {trained.state0.data(), 10, 4}), Error);
  EXPECT_THROW(step_with({trained.table.data(), 9, 4}, {trained.state0.data(), 9, 1}), Error);
  EXPECT_NO_THROW(step_with(trained.table_view(), {trained.state0.data(), 10, 1}));
}

TEST(EmbeddingBackward, StepsOfSeveralTablesEqualOneAfterTheOther) {
  const Exec exec{DeviceType::kCpu, 3};
  std::vector<Lookup> lookups;
  for (int64_t t = 0; t < 5; ++t) {
    lookups.push_back(make_lookup(300 + t, 8 + 3 * t, std::vector<int64_t>(40 * t, 9 + t),
                                  t % 2 == 0 ? Pool::kSum : Pool::kMean, t > 2, t));
  }
  std::vector<PlanInput> inputs;
  for (const Lookup& l : lookups) inputs.push_back({l.rows, l.bags()});
  const std::vector<EmbeddingPlan> plans = EmbeddingPlan::make(inputs, BadIds::kThrow, exec);
  std::vector<Trained> together, alone;
  for (const Lookup& l : lookups) together.emplace_back(l);
  alone = together;
  std::vector<TableUpdate> updates;
  for (size_t t = 0; t < lookups.size(); ++t) {
    const OptimizerStep step{.kind = kOptimizers[t % std::size(kOptimizers)]};
    alone[t].step(lookups[t], plans[t], step);
    updates.push_back({together[t].table_view(), together[t].state0_view(step.kind),
                       together[t].state1_view(), &plans[t], lookups[t].bags(), lookups[t].pool,
                       lookups[t].grad_view(), step});
  }
  embedding_backward(updates, exec);
  EXPECT_TRUE(together == alone);

  updates.push_back(updates.front());
  EXPECT_THROW(embedding_backward(updates, exec), Error);
}

// The sentence that a step throws.
template <class Step>
std::string complaint(const Step& step) {
  try {
    step();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kArgument);
    return e.what();
  }
  return "";
}

TEST(EmbeddingBackward, AGradientThatIsNotFiniteStopsTheStepOfEveryTable) {
  std::vector<Lookup> lookups;
  for (int64_t t = 0; t < 3; ++t) {
    lookups.push_back(make_lookup(30, 8, {4, 0, 5}, Pool::kSum, false, t));
  }
  lookups[1].grad[2 * 8 + 5] = std::numeric_limits<float>::infinity();
  lookups[2].grad[0] = std::numeric_limits<float>::quiet_NaN();
  for (const Optimizer kind : kOptimizers) {
    std::vector<Trained> trained;
    std::vector<EmbeddingPlan> plans;
    std::vector<TableUpdate> updates;
    for (const Lookup& l : lookups) trained.emplace_back(l);
    const std::vector<Trained> before = trained;
    for (const Lookup& l : lookups) plans.emplace_back(30, l.bags(), BadIds::kThrow, Exec{});
    for (size_t t = 0; t < 3; ++t) {
      Bags bags = lookups[t].bags();
      bags.name = t == 1 ? "genres" : "other";
      updates.push_back({trained[t].table_view(), trained[t].state0_view(kind),
                         trained[t].state1_view(), &plans[t], bags, Pool::kSum,
                         lookups[t].grad_view(), OptimizerStep{.kind = kind}});
    }
    EXPECT_EQ(complaint([&] { embedding_backward(updates, {}); }),
              "feature 'genres': expected a finite gradient, got infinity in bag 2, column 5; "
              "nothing has been updated. Lower lr, or look for NaN in the inputs and the loss.");
    EXPECT_TRUE(trained == before);
    const std::vector<int64_t> rows = {3, 4, 5};
    EXPECT_EQ(complaint([&] {
                apply_row_gradient(trained[0].table_view(), trained[0].state0_view(kind),
                                   trained[0].state1_view(), rows.data(), lookups[2].grad_view(),
                                   OptimizerStep{.kind = kind}, {});
              }),
              "apply_row_gradient: expected a finite gradient, got NaN in row 0, column 0; "
              "nothing has been updated. Lower lr, or look for NaN in the inputs and the loss.");
    EXPECT_TRUE(trained == before);
  }
}

// A run of many pieces is summed as kernels/embedding_backend.h says, whichever threads do it.
TEST(EmbeddingBackward, OneRowThatTakesAllIdsIsSummedInPieces) {
  constexpr int64_t kIds = 70'000, kDim = 5;
  Lookup lookup = make_lookup(3, kDim, std::vector<int64_t>(kIds / 10, 10), Pool::kSum, true);
  std::fill(lookup.ids.begin(), lookup.ids.end(), 1);
  std::vector<float> first;
  for (int threads : {1, 2, 5}) {
    const Exec exec{DeviceType::kCpu, threads};
    const EmbeddingPlan plan(3, lookup.bags(), BadIds::kThrow, exec);
    ASSERT_EQ(plan.unique_rows(), 1);
    const std::vector<float> got = row_gradient(lookup, plan, exec);
    if (threads == 1) first = got;
    EXPECT_EQ(got, first);
  }
  const std::vector<double> want = oracle_row_gradient(lookup).at(1);
  for (int64_t j = 0; j < kDim; ++j) EXPECT_NEAR(first[j], want[j], 1e-4 * (1 + std::abs(want[j])));
}

}  // namespace
}  // namespace hypertower::test
