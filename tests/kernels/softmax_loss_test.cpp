#include "kernels/softmax_loss.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>

#include "kernels/error.h"
#include "tests/kernels/softmax_loss_oracle.h"

namespace hypertower::test {
namespace {

struct Result {
  std::vector<float> loss, log_z, d_query, d_column;
  double d_scale = -7.0;
  bool operator==(const Result&) const = default;
};

Result run(const LossCase& c, const Exec& exec = {}) {
  Result r;
  r.loss.assign(c.rows, -7.0F);
  r.log_z.assign(c.rows, -7.0F);
  r.d_query.assign(c.rows * c.dim, -7.0F);
  r.d_column.assign(c.columns * c.dim, -7.0F);
  softmax_loss_forward(c.input(), r.loss.data(), r.log_z.data(), exec);
  softmax_loss_backward(c.input(), r.log_z.data(), c.grad_loss.data(),
                        {r.d_query.data(), c.rows, c.dim}, {r.d_column.data(), c.columns, c.dim},
                        &r.d_scale, exec);
  return r;
}

void expect_near(const char* what, const std::vector<float>& got, const std::vector<double>& want,
                 double tolerance) {
  double largest = 1.0;
  for (double w : want) largest = std::max(largest, std::abs(w));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * largest) << what << " " << i;
  }
}

void expect_oracle(const LossCase& c, double tolerance = 2e-6) {
  const LossOracle want = softmax_loss_oracle(c);
  const Result got = run(c);
  expect_near("loss", got.loss, want.loss, tolerance);
  expect_near("log_z", got.log_z, want.log_z, tolerance);
  expect_near("d_query", got.d_query, want.d_query, tolerance);
  expect_near("d_column", got.d_column, want.d_column, tolerance);
  EXPECT_NEAR(got.d_scale, want.d_scale, 10 * tolerance * (1.0 + std::abs(want.d_scale)));
}

// The kind and message of the error that a forward pass throws.
std::pair<ErrorKind, std::string> error_of(const LossCase& c) {
  std::vector<float> loss(c.rows), log_z(c.rows);
  try {
    softmax_loss_forward(c.input(), loss.data(), log_z.data(), {});
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {ErrorKind::kIo, "no error"};
}

TEST(SoftmaxLoss, MatchesOracleAroundTheEdgesOfTiles) {
  for (int64_t rows : {1, 2, 63, 64, 65, 130}) {
    for (int64_t columns : {1, 2, 5, 127, 128, 129, 300}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << columns);
      expect_oracle(make_loss_case(rows, columns, 9));
    }
  }
}

TEST(SoftmaxLoss, MatchesOracleForEveryWidth) {
  for (int64_t dim : {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 128, 256, 513}) {
    SCOPED_TRACE(dim);
    LossCase c = make_loss_case(37, 150, dim);
    c.scale = 4.0F / std::sqrt(static_cast<float>(dim));
    add_everything(c);
    expect_oracle(c, 1e-5);
  }
}

TEST(SoftmaxLoss, MatchesOracleOverSeveralPartsAndSpans) {
  for (int64_t columns : {2047, 4100, 20000}) {
    LossCase c = make_loss_case(70, columns, 3);
    add_everything(c);
    expect_oracle(c, 1e-5);
  }
}

TEST(SoftmaxLoss, TwoColumnsLiteral) {
  LossCase c = make_loss_case(1, 2, 1);
  c.query = {2.0F};
  c.column = {1.0F, -1.0F};
  c.target = {0};
  c.scale = 0.5F;
  c.grad_loss = {1.0F};
  const Result r = run(c);
  EXPECT_NEAR(r.loss[0], std::log1p(std::exp(-2.0)), 1e-6);
  const double p = 1.0 / (1.0 + std::exp(2.0));  // of the wrong column
  EXPECT_NEAR(r.d_query[0], 0.5 * -2.0 * p, 1e-6);
  EXPECT_NEAR(r.d_column[0], 0.5 * 2.0 * -p, 1e-6);
  EXPECT_NEAR(r.d_column[1], 0.5 * 2.0 * p, 1e-6);
  EXPECT_NEAR(r.d_scale, -2.0 * 2.0 * p, 1e-6);
}

TEST(SoftmaxLoss, GradientsMatchFiniteDifferencesOfTheOracle) {
  LossCase c = make_loss_case(6, 20, 5);
  add_everything(c);
  const Result got = run(c);
  const auto derivative = [&](const auto& at) {
    constexpr double kStep = 1.0 / 1024;  // a power of two: the float moves by exactly this
    LossCase up = c, down = c;
    at(up) += kStep;
    at(down) -= kStep;
    return (softmax_loss_oracle(up).total - softmax_loss_oracle(down).total) / (2 * kStep);
  };
  for (size_t i = 0; i < c.query.size(); ++i) {
    EXPECT_NEAR(got.d_query[i], derivative([&](LossCase& l) -> float& { return l.query[i]; }),
                1e-4);
  }
  for (size_t i = 0; i < c.column.size(); ++i) {
    EXPECT_NEAR(got.d_column[i], derivative([&](LossCase& l) -> float& { return l.column[i]; }),
                1e-4);
  }
  EXPECT_NEAR(got.d_scale, derivative([](LossCase& l) -> float& { return l.scale; }), 1e-4);
}

TEST(SoftmaxLoss, EachMaskAloneMatchesOracleAndChangesTheLoss) {
  const LossCase plain = make_loss_case(40, 300, 4);
  LossCase all = plain;
  add_everything(all);
  LossCase accidental = plain, known = plain, excluded = plain;
  accidental.column_item = all.column_item;
  known.column_user = all.column_user;
  known.row_user = all.row_user;
  excluded.exclude_values = all.exclude_values;
  excluded.exclude_offsets = all.exclude_offsets;
  for (int64_t c = 0; c < 300; ++c) excluded.column_item.push_back(c);  // no accidental hits
  for (const LossCase& c : {accidental, known, excluded}) {
    expect_oracle(c, 1e-5);
    EXPECT_NE(run(c).loss, run(plain).loss);
  }
}

TEST(SoftmaxLoss, TheTargetIsNeverMasked) {
  LossCase c = make_loss_case(3, 50, 4);
  c.column_item.assign(50, 7);  // every column is an accidental hit
  c.column_user.assign(50, 1);
  c.row_user.assign(3, 1);
  c.exclude_values = {7, 7, 7};
  c.exclude_offsets = {0, 1, 2, 3};
  const Result r = run(c);
  EXPECT_EQ(r.loss, std::vector<float>(3, 0.0F));
  EXPECT_EQ(r.d_query, std::vector<float>(12, 0.0F));
  EXPECT_EQ(r.d_column, std::vector<float>(200, 0.0F));
}

TEST(SoftmaxLoss, NegativeUsersNeverMatch) {
  LossCase c = make_loss_case(3, 50, 4);
  const Result plain = run(c);
  c.column_user.assign(50, -1);
  c.row_user.assign(3, -1);
  EXPECT_TRUE(run(c) == plain);
}

TEST(SoftmaxLoss, OneColumnHasNoLossAndNoGradient) {
  const Result r = run(make_loss_case(5, 1, 8));
  EXPECT_EQ(r.loss, std::vector<float>(5, 0.0F));
  EXPECT_EQ(r.d_query, std::vector<float>(40, 0.0F));
}

TEST(SoftmaxLoss, EqualLogitsGiveTheLogOfTheirNumber) {
  LossCase c = make_loss_case(3, 5000, 4);
  std::fill(c.query.begin(), c.query.end(), 0.0F);
  const Result r = run(c);
  for (float loss : r.loss) EXPECT_NEAR(loss, std::log(5000.0), 2e-6);
}

TEST(SoftmaxLoss, LargeLogitsNeitherOverflowNorVanish) {
  LossCase c = make_loss_case(20, 260, 1);
  for (float& q : c.query) q = q < 0 ? -100.0F : 100.0F;
  for (float& v : c.column) v = v < 0 ? -100.0F + v : 100.0F + v;
  c.scale = 1.0F;  // logits around +-1e4 and up to 100 apart
  expect_oracle(c, 1e-3);
  c.scale = 1e30F;
  const Result huge = run(c);
  for (float loss : huge.loss) EXPECT_TRUE(std::isfinite(loss) && loss >= 0.0F) << loss;
  for (float d : huge.d_query) EXPECT_TRUE(std::isfinite(d)) << d;
}

TEST(SoftmaxLoss, RowsOfWeightZeroGiveNothing) {
  LossCase c = make_loss_case(10, 200, 6);
  c.weight.assign(10, 0.0F);
  c.weight[4] = 1.0F;
  const Result r = run(c);
  for (int64_t b = 0; b < 10; ++b) {
    EXPECT_EQ(r.loss[b] == 0.0F, b != 4);
    for (int64_t j = 0; j < 6; ++j) EXPECT_EQ(r.d_query[b * 6 + j] == 0.0F, b != 4);
  }
  expect_oracle(c);
}

TEST(SoftmaxLoss, AnyNumberOfThreadsGivesTheSameBits) {
  LossCase c = make_loss_case(150, 3000, 20);
  add_everything(c);
  const Result one = run(c, {DeviceType::kCpu, 1});
  for (int threads : {2, 3, 7}) EXPECT_TRUE(run(c, {DeviceType::kCpu, threads}) == one) << threads;
}

TEST(SoftmaxLoss, PaddedMatricesKeepTheirPadding) {
  const LossCase c = make_loss_case(5, 30, 3);
  const Result want = run(c);
  const auto pad = [](const std::vector<float>& m, int64_t rows) {
    std::vector<float> out(rows * 5, 1e9F);
    for (int64_t i = 0; i < rows * 3; ++i) out[i / 3 * 5 + i % 3] = m[i];
    return out;
  };
  const std::vector<float> query = pad(c.query, 5), column = pad(c.column, 30);
  SoftmaxLossInput in = c.input();
  in.queries = {query.data(), 5, 3, 5};
  in.columns = {column.data(), 30, 3, 5};
  std::vector<float> loss(5), log_z(5), d_query(25, 1e9F), d_column(150, 1e9F);
  softmax_loss_forward(in, loss.data(), log_z.data(), {});
  softmax_loss_backward(in, log_z.data(), c.grad_loss.data(), {d_query.data(), 5, 3, 5},
                        {d_column.data(), 30, 3, 5}, nullptr, {});
  EXPECT_EQ(loss, want.loss);
  EXPECT_EQ(d_query, pad(want.d_query, 5));
  EXPECT_EQ(d_column, pad(want.d_column, 30));
}

TEST(SoftmaxLoss, NoRowsGiveZeroGradients) {
  const Result r = run(make_loss_case(0, 3, 2));
  EXPECT_EQ(r.d_column, std::vector<float>(6, 0.0F));
  EXPECT_EQ(r.d_scale, 0.0);
}

TEST(SoftmaxLoss, MemoryDoesNotGrowWithRowsTimesColumns) {
  const LossCase c = make_loss_case(1024, 20000, 2);  // logits would take 82 MB
  const auto peak_kib = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const auto before = peak_kib();
  run(c);
  EXPECT_LT(peak_kib() - before, 16 * 1024);
}

TEST(SoftmaxLoss, ValuesThatAreNotFiniteNameTheFirstRow) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  LossCase c = make_loss_case(100, 200, 4);
  c.query[70 * 4 + 2] = nan;
  c.query[80 * 4 + 1] = std::numeric_limits<float>::infinity();
  auto [kind, message] = error_of(c);
  EXPECT_EQ(kind, ErrorKind::kNumeric);
  EXPECT_EQ(message,
            "softmax_loss: the loss of row 70 is nan: its query holds nan at dimension 2; check "
            "the inputs of that row, or lower the learning rate or the scale.");

  c = make_loss_case(100, 200, 4);
  c.column[150 * 4] = nan;
  std::tie(kind, message) = error_of(c);
  EXPECT_EQ(kind, ErrorKind::kNumeric);
  EXPECT_NE(message.find("the loss of row 0 is nan: a column"), std::string::npos) << message;

  c = make_loss_case(3, 5, 4);
  std::fill(c.query.begin() + 4, c.query.begin() + 8, 3e38F);
  c.scale = 100.0F;
  std::tie(kind, message) = error_of(c);
  EXPECT_EQ(kind, ErrorKind::kNumeric);
  EXPECT_NE(message.find("the loss of row 1 is"), std::string::npos) << message;
}

TEST(SoftmaxLoss, MistakesOfTheCallerAreNamed) {
  const LossCase good = make_loss_case(3, 5, 4);
  const auto expect = [&](const auto& change, const std::string& text) {
    LossCase c = good;
    change(c);
    const auto [kind, message] = error_of(c);
    EXPECT_EQ(kind, ErrorKind::kArgument);
    EXPECT_NE(message.find(text), std::string::npos) << message;
  };
  expect([](LossCase& c) { c.target[1] = 5; },
         "target of row 1 is column 5, expected one of the 5 columns (0 to 4).");
  expect([](LossCase& c) { c.target[2] = -1; }, "target of row 2 is column -1");
  expect([](LossCase& c) { c.target[0] = int64_t{1} << 32; }, "target of row 0 is column 42949672");
  expect([](LossCase& c) { c.scale = 0.0F; }, "expected a finite scale (1 / temperature) above 0");
  expect([](LossCase& c) { c.scale = std::numeric_limits<float>::quiet_NaN(); }, "got nan");
  expect([](LossCase& c) { c.column_user.assign(5, 1); }, "row_user, which is null");
  expect([](LossCase& c) { c.exclude_offsets.assign(4, 0); }, "column_item is null");
  expect(
      [](LossCase& c) {
        c.column_item.assign(5, 1);
        c.exclude_values = {1, 2};
        c.exclude_offsets = {0, 2, 1, 2};
      },
      "row_exclude.offsets[2] is 1; offsets start at 0 and never decrease.");
  expect(
      [](LossCase& c) {
        c.column_item.assign(5, 1);
        c.exclude_values = {1, 2, 1, 2};
        c.exclude_offsets = {0, 1, 3, 4};
      },
      "the items that row_exclude lists for row 1 are not in ascending order");

  SoftmaxLossInput in = good.input();
  in.columns.cols = 3;
  std::vector<float> out(3);
  EXPECT_THROW(softmax_loss_forward(in, out.data(), out.data(), {}), Error);
  EXPECT_THROW(softmax_loss_forward(good.input(), nullptr, out.data(), {}), Error);
}

}  // namespace
}  // namespace hypertower::test
