// Embedding bags on CUDA against the fp64 oracle. The same source runs on the emulator and on a
// GPU.
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/embedding.h"
#include "kernels/error.h"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/embedding_oracle.h"

namespace hypertower::test {
namespace {

using hypertower::testing::DeviceArray;

const Exec kCuda{DeviceType::kCuda, 1, nullptr};
// The vector path (multiples of 4) and the scalar one, narrower and wider than a group.
constexpr int64_t kSomeDims[] = {1, 3, 4, 8, 31, 64, 100, 132, 256, 257};
const std::vector<int64_t> kBags = {0, 1, 3, 0, 4, 5, 9, 0};

// A lookup in device memory.
struct OnDevice {
  const Lookup& host;
  DeviceArray<float> table, grad, weights;
  DeviceArray<int64_t> ids, offsets;

  explicit OnDevice(const Lookup& l)
      : host(l), table(l.table), grad(l.grad), weights(l.weights), ids(l.ids), offsets(l.offsets) {}

  Bags bags() const {
    return {ids.data(), offsets.data(), weights.data(), host.num_ids(), host.num_bags(), "genres"};
  }
  MatrixView<float> table_view() const { return {table.data(), host.rows, host.dim}; }
  MatrixView<const float> grad_view() const { return {grad.data(), host.num_bags(), host.dim}; }
};

std::vector<float> forward(const Lookup& lookup, BadIds policy = BadIds::kThrow,
                           IdReport* report = nullptr) {
  const OnDevice device(lookup);
  const DeviceArray<float> out(std::vector<float>(lookup.num_bags() * lookup.dim, -7.0F));
  const IdReport got = embedding_bag(device.table_view(), device.bags(), lookup.pool, policy,
                                     {out.data(), lookup.num_bags(), lookup.dim}, kCuda);
  if (report != nullptr) *report = got;
  return out.to_host();
}

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * (1.0 + std::abs(want[i]))) << "element " << i;
  }
}

template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(EmbeddingCuda, LookupMatchesOracle) {
  for (int64_t dim : kSomeDims) {
    for (bool weighted : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "dim " << dim << " weighted " << weighted);
      const Lookup lookup =
          make_lookup(20, dim, kBags, weighted ? Pool::kMean : Pool::kSum, weighted);
      expect_near(forward(lookup), oracle_forward(lookup), 1e-5);
    }
  }
}

TEST(EmbeddingCuda, EmptyLookups) {
  EXPECT_TRUE(forward(make_lookup(5, 3, {}, Pool::kSum, false)).empty());
  EXPECT_EQ(forward(make_lookup(5, 3, {0, 0}, Pool::kMean, false)), std::vector<float>(6, 0.0F));
  EXPECT_EQ(forward(make_lookup(0, 4, {0, 0}, Pool::kMean, false)), std::vector<float>(8, 0.0F));
  const Bags none;
  EXPECT_EQ(embedding_bag({nullptr, 0, 4}, none, Pool::kSum, BadIds::kThrow, {nullptr, 0, 4}, kCuda)
                .dropped,
            0);
  EXPECT_EQ(EmbeddingPlan(5, none, BadIds::kThrow, kCuda).unique_rows(), 0);
}

TEST(EmbeddingCuda, PaddedAndMisalignedMatrices) {
  const Lookup lookup = make_lookup(12, 8, kBags, Pool::kSum, false);
  const OnDevice device(lookup);
  for (int64_t shift : {0, 1, 4}) {
    for (int64_t ld : {8, 9, 12}) {
      std::vector<float> padded(12 * ld + shift, 1e9F);
      for (int64_t i = 0; i < 12 * 8; ++i) padded[shift + i / 8 * ld + i % 8] = lookup.table[i];
      const DeviceArray<float> table(padded);
      const DeviceArray<float> out(std::vector<float>(8 * ld + shift, -7.0F));
      embedding_bag({table.data() + shift, 12, 8, ld}, device.bags(), Pool::kSum, BadIds::kThrow,
                    {out.data() + shift, 8, 8, ld}, kCuda);
      const std::vector<float> got = out.to_host(), want = forward(lookup);
      for (int64_t i = 0; i < 8 * ld; ++i) {
        const bool inside = i % ld < 8;
        ASSERT_EQ(got[shift + i], inside ? want[i / ld * 8 + i % ld] : -7.0F);
      }
    }
  }
}

TEST(EmbeddingCuda, BadIdsThrowTheSameTextAsOnTheCpuAndWriteNothing) {
  for (int64_t bad : {int64_t{-1}, int64_t{10}, std::numeric_limits<int64_t>::min(),
                      std::numeric_limits<int64_t>::max(), (int64_t{1} << 32) + 3}) {
    Lookup lookup = make_lookup(10, 4, {2, 0, 3}, Pool::kSum, false);
    lookup.ids[3] = bad;
    const OnDevice device(lookup);
    const DeviceArray<float> out(std::vector<float>(12, -7.0F));
    std::vector<float> host_out(12);
    const std::string expected = error_of([&] {
      embedding_bag(lookup.table_view(), lookup.bags(), Pool::kSum, BadIds::kThrow,
                    {host_out.data(), 3, 4}, {});
    });
    EXPECT_EQ(error_of([&] {
                embedding_bag(device.table_view(), device.bags(), Pool::kSum, BadIds::kThrow,
                              {out.data(), 3, 4}, kCuda);
              }),
              expected);
    EXPECT_EQ(out.to_host(), std::vector<float>(12, -7.0F));
    EXPECT_EQ(error_of([&] { EmbeddingPlan(10, device.bags(), BadIds::kThrow, kCuda); }), expected);
  }
}

// More lookups than one launch takes, of several widths and alignments.
struct ManyOnDevice {
  std::vector<Lookup> lookups;
  std::deque<OnDevice> devices;
  std::deque<DeviceArray<float>> outs;
  std::vector<TableLookup> calls;
  std::vector<PlanInput> plans;

  explicit ManyOnDevice(const std::function<void(size_t, Lookup&)>& change) {
    for (size_t i = 0; i < 70; ++i) {
      const std::vector<int64_t> lengths = {static_cast<int64_t>(i % 3), 2, i == 40 ? 300 : 1};
      lookups.push_back(make_lookup(9, i % 5 == 0 ? 5 : 8, lengths,
                                    i % 2 == 0 ? Pool::kSum : Pool::kMean, i % 7 == 0,
                                    static_cast<uint32_t>(i)));
      change(i, lookups.back());
    }
    for (const Lookup& lookup : lookups) {
      const OnDevice& device = devices.emplace_back(lookup);
      outs.emplace_back(std::vector<float>(lookup.grad.size(), -7.0F));
      calls.push_back({device.table_view(),
                       device.bags(),
                       lookup.pool,
                       {outs.back().data(), lookup.num_bags(), lookup.dim}});
      plans.push_back({lookup.rows, device.bags()});
    }
  }
};

TEST(EmbeddingCuda, ManyTablesInOneCall) {
  const ManyOnDevice many([](size_t, Lookup&) {});
  embedding_bag(many.calls, BadIds::kThrow, kCuda);
  const std::vector<EmbeddingPlan> plans = EmbeddingPlan::make(many.plans, BadIds::kThrow, kCuda);
  for (size_t i = 0; i < many.lookups.size(); ++i) {
    EXPECT_EQ(many.outs[i].to_host(), forward(many.lookups[i])) << i;
    const auto touched = oracle_row_gradient(many.lookups[i]);
    ASSERT_EQ(plans[i].unique_rows(), static_cast<int64_t>(touched.size())) << i;
    std::vector<int64_t> rows(touched.size());
    ASSERT_EQ(cudaMemcpy(rows.data(), plans[i].rows(), rows.size() * 8, cudaMemcpyDeviceToHost),
              cudaSuccess);
    size_t at = 0;
    for (const auto& [row, gradient] : touched) EXPECT_EQ(rows[at++], row) << i;
  }
}

TEST(EmbeddingCuda, ABadIdInOneOfManyTablesStopsAll) {
  const ManyOnDevice many([](size_t i, Lookup& lookup) {
    if (i == 66) lookup.ids.back() = 9;
  });
  const std::string complaint =
      "feature 'genres': id 9 in bag 2, position 2 is outside the table of 9 rows (valid: 0 to 8); "
      "map unknown values to a row of their own.";
  EXPECT_EQ(error_of([&] { embedding_bag(many.calls, BadIds::kThrow, kCuda); }), complaint);
  EXPECT_EQ(error_of([&] { EmbeddingPlan::make(many.plans, BadIds::kThrow, kCuda); }), complaint);
  for (const DeviceArray<float>& out : many.outs) {
    const std::vector<float> got = out.to_host();
    EXPECT_EQ(got, std::vector<float>(got.size(), -7.0F));
  }
}

TEST(EmbeddingCuda, DroppedIdsContributeZeroAndAreCounted) {
  for (int64_t dim : {5, 8}) {
    Lookup lookup = make_lookup(10, dim, {2, 0, 9, 3}, Pool::kMean, true);
    lookup.ids[5] = (int64_t{1} << 32) + 2;
    lookup.ids[6] = lookup.ids[7] = lookup.ids[8] = lookup.ids[9] = -1;
    IdReport report;
    expect_near(forward(lookup, BadIds::kDrop, &report), oracle_forward(lookup), 1e-5);
    EXPECT_EQ(report.dropped, 5);
    EXPECT_EQ(report.first_bag, 2);
    EXPECT_EQ(report.first_position, 5);
    EXPECT_EQ(report.first_id, (int64_t{1} << 32) + 2);
  }
}

TEST(EmbeddingCuda, BrokenOffsetsAreErrorsWithTheTextOfTheCpu) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::vector<int64_t> cases[] = {{1, 2, 4}, {-1, 2, 4},    {0, 3, 2, 4},
                                        {0, 2, 3}, {0, kMax, 4},  {0, kMax, kMax},
                                        {0},       {0, 2, -kMax}, {0, 9, 9}};
  for (const std::vector<int64_t>& offsets : cases) {
    Lookup lookup = make_lookup(10, 4, {4}, Pool::kSum, false);
    lookup.offsets = offsets;
    lookup.grad.assign(lookup.num_bags() * 4, 1.0F);
    const OnDevice device(lookup);
    const std::string expected =
        error_of([&] { EmbeddingPlan(10, lookup.bags(), BadIds::kThrow, {}); });
    EXPECT_NE(expected.find("offsets["), std::string::npos);
    EXPECT_EQ(error_of([&] { forward(lookup, BadIds::kDrop); }), expected);
    EXPECT_EQ(error_of([&] { EmbeddingPlan(10, device.bags(), BadIds::kDrop, kCuda); }), expected);
    const DeviceArray<float> out(4);
    EXPECT_EQ(error_of([&] {
                embedding_weight_gradient(device.table_view(), device.bags(), Pool::kSum,
                                          device.grad_view(), out.data(), kCuda);
              }),
              expected);
  }
}

TEST(EmbeddingCuda, PlanListsTouchedRowsOnceAscending) {
  for (int64_t rows : {int64_t{1}, int64_t{5}, int64_t{4096}, (int64_t{1} << 32) + 7}) {
    Lookup lookup = make_lookup(0, 1, {30, 0, 40}, Pool::kSum, true);
    std::mt19937_64 rng(3);
    for (int64_t& id : lookup.ids) id = static_cast<int64_t>(rng() % rows);
    lookup.ids[9] = rows - 1;
    lookup.ids[11] = rows;  // dropped
    const OnDevice device(lookup);
    const EmbeddingPlan plan(rows, device.bags(), BadIds::kDrop, kCuda);
    const EmbeddingPlan same(rows, lookup.bags(), BadIds::kDrop, {});
    ASSERT_EQ(plan.unique_rows(), same.unique_rows());
    std::vector<int64_t> got(plan.unique_rows());
    ASSERT_EQ(cudaMemcpy(got.data(), plan.rows(), got.size() * 8, cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(got, std::vector<int64_t>(same.rows(), same.rows() + same.unique_rows()));
  }
}

TEST(EmbeddingCuda, RowAndWeightGradientsMatchOracle) {
  for (int64_t dim : kSomeDims) {
    for (bool weighted : {false, true}) {
      Lookup lookup = make_lookup(6, dim, kBags, weighted ? Pool::kMean : Pool::kSum, weighted);
      lookup.ids[2] = -1;
      lookup.ids[5] = 8 + 1;  // the bits that are sorted name row 1
      lookup.ids[9] = (int64_t{1} << 32) + 2;
      const OnDevice device(lookup);
      const EmbeddingPlan plan(6, device.bags(), BadIds::kDrop, kCuda);
      const DeviceArray<float> rows(plan.unique_rows() * dim);
      embedding_row_gradient(plan, device.bags(), lookup.pool, device.grad_view(),
                             {rows.data(), plan.unique_rows(), dim}, kCuda);
      std::vector<double> want;
      for (const auto& [row, gradient] : oracle_row_gradient(lookup)) {
        want.insert(want.end(), gradient.begin(), gradient.end());
      }
      expect_near(rows.to_host(), want, 1e-5);

      const DeviceArray<float> weights(lookup.ids.size());
      embedding_weight_gradient(device.table_view(), device.bags(), lookup.pool, device.grad_view(),
                                weights.data(), kCuda);
      expect_near(weights.to_host(), oracle_weight_gradient(lookup), 1e-5);
    }
  }
}

// Table and state on the device, and one step there.
struct TrainedOnDevice {
  DeviceArray<float> table, state0, state1;
  int64_t rows, dim;

  explicit TrainedOnDevice(const Lookup& l)
      : table(l.table),
        state0(std::vector<float>(l.table.size(), 0.0F)),
        state1(std::vector<float>(l.table.size(), 0.0F)),
        rows(l.rows),
        dim(l.dim) {}

  MatrixView<float> table_view() const { return {table.data(), rows, dim}; }
  MatrixView<float> state0_view(Optimizer kind) const {
    return {state0.data(), rows, state0_cols(kind, dim)};
  }
  MatrixView<float> state1_view() const { return {state1.data(), rows, dim}; }

  void step(const Lookup& lookup, const OptimizerStep& s) const {
    const OnDevice device(lookup);
    const EmbeddingPlan plan(rows, device.bags(), BadIds::kThrow, kCuda);
    embedding_backward(table_view(), state0_view(s.kind), state1_view(), plan, device.bags(),
                       lookup.pool, device.grad_view(), s, kCuda);
    // `plan` and `device` go before the work has run: releases are in stream order or wait.
  }
};

TEST(EmbeddingCuda, StepsOfEveryOptimizerFollowTheFormulas) {
  for (Optimizer kind : kOptimizers) {
    for (int64_t dim : {1, 6, 20, 128, 132}) {
      const Lookup start = make_lookup(9, dim, kBags, Pool::kMean, true);
      const TrainedOnDevice trained(start);
      OracleTable oracle(start.table, dim);
      OptimizerStep step{kind, 0.05F, 1e-6F, 0.9F, 0.99F, 0.1F, 0};
      for (step.step = 1; step.step <= 5; ++step.step) {
        const Lookup lookup = make_lookup(9, dim, kBags, Pool::kMean, true, step.step);
        trained.step(lookup, step);
        oracle.step(oracle_row_gradient(lookup), step);
      }
      expect_near(trained.table.to_host(), oracle.weight, 1e-4);
    }
  }
}

TEST(EmbeddingCuda, FusedStepEqualsUnfusedAndRepeatsBitForBit) {
  for (Optimizer kind : kOptimizers) {
    for (int64_t dim : {7, 64, 132}) {
      const Lookup lookup = make_lookup(6, dim, {40, 0, 3}, Pool::kSum, false);
      const OptimizerStep step{.kind = kind, .step = 3};
      const TrainedOnDevice fused(lookup), again(lookup), unfused(lookup);
      fused.step(lookup, step);
      again.step(lookup, step);
      const OnDevice device(lookup);
      const EmbeddingPlan plan(6, device.bags(), BadIds::kThrow, kCuda);
      const DeviceArray<float> gradient(plan.unique_rows() * dim);
      const MatrixView<float> view(gradient.data(), plan.unique_rows(), dim);
      embedding_row_gradient(plan, device.bags(), Pool::kSum, device.grad_view(), view, kCuda);
      apply_row_gradient(unfused.table_view(), unfused.state0_view(kind), unfused.state1_view(),
                         plan.rows(), view, step, kCuda);
      EXPECT_EQ(fused.table.to_host(), again.table.to_host());
      EXPECT_EQ(fused.table.to_host(), unfused.table.to_host());
      EXPECT_EQ(fused.state0.to_host(), unfused.state0.to_host());
    }
  }
}

TEST(EmbeddingCuda, AGradientThatIsNotFiniteStopsTheStepOfEveryTable) {
  for (const Optimizer kind : kOptimizers) {
    std::vector<Lookup> lookups;
    for (int64_t t = 0; t < 3; ++t) {
      lookups.push_back(make_lookup(30, 12, {4, 0, 5}, Pool::kSum, false, t));
    }
    lookups[1].grad[2 * 12 + 5] = std::numeric_limits<float>::infinity();
    lookups[2].grad[0] = std::numeric_limits<float>::quiet_NaN();
    std::deque<OnDevice> devices;
    std::deque<TrainedOnDevice> trained;
    std::vector<EmbeddingPlan> plans;
    std::vector<TableUpdate> updates;
    for (size_t t = 0; t < 3; ++t) {
      devices.emplace_back(lookups[t]);
      trained.emplace_back(lookups[t]);
      plans.emplace_back(30, devices[t].bags(), BadIds::kThrow, kCuda);
    }
    for (size_t t = 0; t < 3; ++t) {
      Bags bags = devices[t].bags();
      bags.name = t == 1 ? "genres" : "other";
      updates.push_back({trained[t].table_view(), trained[t].state0_view(kind),
                         trained[t].state1_view(), &plans[t], bags, Pool::kSum,
                         devices[t].grad_view(), OptimizerStep{.kind = kind}});
    }
    std::string complaint;
    try {
      embedding_backward(updates, kCuda);
    } catch (const Error& e) {
      complaint = e.what();
    }
    EXPECT_EQ(complaint,
              "feature 'genres': expected a finite gradient, got infinity in bag 2, column 5; "
              "nothing has been updated. Lower lr, or look for NaN in the inputs and the loss.");
    for (size_t t = 0; t < 3; ++t) {
      EXPECT_EQ(trained[t].table.to_host(), lookups[t].table);
      EXPECT_EQ(trained[t].state0.to_host(), std::vector<float>(lookups[t].table.size(), 0.0F));
    }
  }
}

}  // namespace
}  // namespace hypertower::test
