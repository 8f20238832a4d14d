// Values and gradients of our differentiable ops against the same formulas in torch, in double, and
// (for the naive formulas themselves) against finite differences.
#include "trainer/autograd_ops.h"

#include <gtest/gtest.h>

#include <functional>

namespace hypertower {
namespace {

at::Tensor longs(std::vector<int64_t> values) {
  return at::tensor(values, at::kLong);
}

double largest(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// Row b: sum over its ids of w * matrix[id].
at::Tensor naive_pool(const at::Tensor& matrix, const at::Tensor& weights, const IdBags& bags) {
  const at::Tensor lengths = bags.offsets.slice(0, 1) - bags.offsets.slice(0, 0, -1);
  const at::Tensor row = at::repeat_interleave(lengths);
  const at::Tensor terms = matrix.index_select(0, bags.ids) * weights.unsqueeze(1);
  return at::zeros({bags.bags(), matrix.size(1)}, terms.options()).index_add(0, row, terms);
}

at::Tensor naive_loss(const at::Tensor& queries, const at::Tensor& columns,
                      const SoftmaxColumns& what) {
  at::Tensor z = at::matmul(queries, columns.t());
  if (what.logq.defined()) z = z - what.logq.to(z.scalar_type());
  if (what.exclude.defined()) {
    const auto offsets = what.exclude_offsets.const_data_ptr<int64_t>();
    at::Tensor mask = at::zeros_like(z, at::kBool);
    for (int64_t b = 0; b < z.size(0); ++b) {
      for (int64_t e = offsets[b]; e < offsets[b + 1]; ++e) {
        mask[b].logical_or_(what.column_item == what.exclude[e]);
      }
      mask[b][what.target[b].item<int64_t>()] = false;
    }
    z = z.masked_fill(mask, -std::numeric_limits<double>::infinity());
  }
  const at::Tensor loss = z.logsumexp(1) - z.gather(1, what.target.unsqueeze(1)).squeeze(1);
  return what.row_weight.defined() ? loss * what.row_weight.to(z.scalar_type()) : loss;
}

// Central differences of a scalar function of one double tensor.
at::Tensor numeric_gradient(const std::function<at::Tensor(const at::Tensor&)>& f, at::Tensor x) {
  constexpr double kStep = 1e-5;
  at::Tensor gradient = at::zeros_like(x);
  auto flat = x.view(-1);
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double old = flat[i].item<double>();
    flat[i] = old + kStep;
    const double up = f(x).item<double>();
    flat[i] = old - kStep;
    const double down = f(x).item<double>();
    flat[i] = old;
    gradient.view(-1)[i] = (up - down) / (2 * kStep);
  }
  return gradient;
}

struct Ops : ::testing::Test {
  void SetUp() override { torch::manual_seed(3); }
};

using WeightedPoolTest = Ops;
using LookupTest = Ops;
using SoftmaxLossTest = Ops;

TEST_F(WeightedPoolTest, GradientsEqualFiniteDifferences) {
  const IdBags bags = make_bags(longs({0, 2, 2, 4, 1, 0}), longs({0, 3, 3, 6}));
  const at::Tensor mix = at::randn({3, 5}, at::kDouble);
  at::Tensor matrix = at::randn({5, 5}).requires_grad_();
  at::Tensor weights = at::rand({6}).requires_grad_();
  const at::Tensor out = weighted_pool(matrix, weights, bags);
  const at::Tensor exact = matrix.detach().to(at::kDouble);
  const at::Tensor exact_weights = weights.detach().to(at::kDouble);
  EXPECT_LT(largest(out.detach(), naive_pool(exact, exact_weights, bags)), 1e-6);
  EXPECT_EQ(out[1].abs().sum().item<float>(), 0);  // an empty bag
  (out * mix.to(at::kFloat)).sum().backward();
  const auto of_matrix = [&](const at::Tensor& x) {
    return (naive_pool(x, exact_weights, bags) * mix).sum();
  };
  const auto of_weights = [&](const at::Tensor& x) {
    return (naive_pool(exact, x, bags) * mix).sum();
  };
  EXPECT_LT(largest(matrix.grad(), numeric_gradient(of_matrix, exact.clone())), 1e-5);
  EXPECT_LT(largest(weights.grad(), numeric_gradient(of_weights, exact_weights.clone())), 1e-5);
}

TEST_F(WeightedPoolTest, OnePlanServesSeveralPools) {
  IdBags bags = make_bags(longs({3, 3, 1}), longs({0, 2, 3}));
  at::Tensor matrix = at::randn({4, 8}).requires_grad_();
  const at::Tensor a = at::rand({3}), b = at::rand({3});
  bags.plan = make_plan(bags, 4, a);
  (weighted_pool(matrix, a, bags) + weighted_pool(matrix, b, bags)).sum().backward();
  at::Tensor expected = at::zeros({4, 1}).index_add(0, bags.ids, (a + b).unsqueeze(1));
  EXPECT_LT(largest(matrix.grad(), expected.expand({4, 8})), 1e-6);
}

// Two steps of row-wise Adagrad, written out.
TEST_F(LookupTest, BackwardIsRowWiseAdagrad) {
  auto table = std::make_shared<FusedTable>("t", at::randn({6, 4}), Optimizer::kRowWiseAdagrad);
  table->step.lr = 0.1F;
  const IdBags bags = make_bags(longs({1, 1, 5, 2}), longs({0, 2, 2, 4}));
  at::Tensor weight = table->weight.clone().to(at::kDouble);
  at::Tensor state = at::zeros({6}, at::kDouble);
  for (int step = 0; step < 2; ++step) {
    const at::Tensor mix = at::randn({3, 4});
    const at::Tensor out = lookup(table, bags);
    EXPECT_LT(largest(out[0], weight[1]), 1e-6);
    EXPECT_LT(largest(out[2], (weight[5] + weight[2]) / 2), 1e-6);
    (out * mix).sum().backward();
    const at::Tensor m = mix.to(at::kDouble);
    for (const auto& [row, gradient] :
         std::vector<std::pair<int64_t, at::Tensor>>{{1, m[0]}, {5, m[2] / 2}, {2, m[2] / 2}}) {
      state[row] += gradient.square().mean();
      weight[row] -= 0.1 * gradient / (state[row].sqrt() + 1e-8);
    }
    EXPECT_LT(largest(table->weight, weight), 1e-5);
  }
  EXPECT_LT(largest(table->state0.squeeze(1), state), 1e-5);
}

TEST_F(LookupTest, WithoutGradientsNothingIsUpdated) {
  auto table = std::make_shared<FusedTable>("t", at::randn({3, 4}), Optimizer::kRowWiseAdagrad);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(lookup(table, make_bags(longs({1}), longs({0, 1}))).requires_grad());
}

TEST_F(SoftmaxLossTest, EqualsTheNaiveFormulaWithAllItsParts) {
  SoftmaxColumns what;
  what.target = longs({4, 0, 2});
  what.logq = at::randn({7});
  what.row_weight = at::tensor({1.0F, 0.5F, 2.0F});
  what.column_item = longs({10, 11, 12, 13, 14, 15, 16});
  what.exclude = longs({10, 12, 14, 16, 11});  // 14 is the first row's own target: it stays
  what.exclude_offsets = longs({0, 4, 4, 5});
  at::Tensor queries = at::randn({3, 9}).requires_grad_();
  at::Tensor columns = at::randn({7, 9}).requires_grad_();
  const at::Tensor loss = softmax_loss(queries, columns, what);
  const at::Tensor q = queries.detach().to(at::kDouble);
  const at::Tensor c = columns.detach().to(at::kDouble);
  EXPECT_LT(largest(loss.detach(), naive_loss(q, c, what)), 1e-5);
  loss.mean().backward();
  const auto of_queries = [&](const at::Tensor& x) { return naive_loss(x, c, what).mean(); };
  const auto of_columns = [&](const at::Tensor& x) { return naive_loss(q, x, what).mean(); };
  EXPECT_LT(largest(queries.grad(), numeric_gradient(of_queries, q.clone())), 1e-5);
  EXPECT_LT(largest(columns.grad(), numeric_gradient(of_columns, c.clone())), 1e-5);
}

TEST_F(SoftmaxLossTest, BareFormHasUnitWeightsAndNoMasks) {
  SoftmaxColumns what;
  what.target = longs({1, 1});
  at::Tensor queries = at::randn({2, 3});
  at::Tensor columns = at::randn({4, 3});
  const at::Tensor expected = naive_loss(queries.to(at::kDouble), columns.to(at::kDouble), what);
  EXPECT_LT(largest(softmax_loss(queries, columns, what), expected), 1e-5);
}

}  // namespace
}  // namespace hypertower
