// The softmax loss on CUDA against the fp64 oracle. The same source runs on the emulator and on a
// GPU.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>

#include "kernels/error.h"
#include "kernels/softmax_loss.h"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/softmax_loss_oracle.h"

namespace hypertower::test {
namespace {

using hypertower::testing::DeviceArray;

const Exec kCuda{DeviceType::kCuda, 1, nullptr};

// A case in device memory.
struct OnDevice {
  DeviceArray<float> query, column, logq, weight, grad_loss;
  DeviceArray<int64_t> target, column_item, column_user, row_user, exclude_values, exclude_offsets;
  SoftmaxLossInput in;

  explicit OnDevice(const LossCase& c)
      : query(c.query),
        column(c.column),
        logq(c.logq),
        weight(c.weight),
        grad_loss(c.grad_loss),
        target(c.target),
        column_item(c.column_item),
        column_user(c.column_user),
        row_user(c.row_user),
        exclude_values(c.exclude_values),
        exclude_offsets(c.exclude_offsets) {
    in.queries = {query.data(), c.rows, c.dim};
    in.columns = {column.data(), c.columns, c.dim};
    in.target = target.data();
    in.scale = c.scale;
    in.logq = logq.data();
    in.weight = weight.data();
    in.column_item = column_item.data();
    in.column_user = column_user.data();
    in.row_user = row_user.data();
    in.row_exclude = {exclude_values.data(), exclude_offsets.data(), c.rows};
  }
};

struct Result {
  std::vector<float> loss, log_z, d_query, d_column;
  std::vector<double> d_scale;
  bool operator==(const Result&) const = default;
};

Result run(const LossCase& c) {
  const OnDevice device(c);
  const auto filled = [](int64_t size) { return std::vector<float>(size, -7.0F); };
  const DeviceArray<float> loss(filled(c.rows)), log_z(filled(c.rows)),
      d_query(filled(c.rows * c.dim)), d_column(filled(c.columns * c.dim));
  const DeviceArray<double> d_scale(1);
  softmax_loss_forward(device.in, loss.data(), log_z.data(), kCuda);
  softmax_loss_backward(device.in, log_z.data(), device.grad_loss.data(),
                        {d_query.data(), c.rows, c.dim}, {d_column.data(), c.columns, c.dim},
                        d_scale.data(), kCuda);
  return {loss.to_host(), log_z.to_host(), d_query.to_host(), d_column.to_host(),
          d_scale.to_host()};
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

void expect_oracle(const LossCase& c, double tolerance = 1e-5) {
  const LossOracle want = softmax_loss_oracle(c);
  const Result got = run(c);
  expect_near("loss", got.loss, want.loss, tolerance);
  expect_near("log_z", got.log_z, want.log_z, tolerance);
  expect_near("d_query", got.d_query, want.d_query, tolerance);
  expect_near("d_column", got.d_column, want.d_column, tolerance);
  EXPECT_NEAR(got.d_scale[0], want.d_scale, 10 * tolerance * (1.0 + std::abs(want.d_scale)));
}

// The error that a forward pass throws, on the CPU or on CUDA.
std::string error_of(const LossCase& c, bool on_cuda) {
  try {
    if (on_cuda) {
      const OnDevice device(c);
      const DeviceArray<float> loss(c.rows), log_z(c.rows);
      softmax_loss_forward(device.in, loss.data(), log_z.data(), kCuda);
    } else {
      std::vector<float> loss(c.rows), log_z(c.rows);
      softmax_loss_forward(c.input(), loss.data(), log_z.data(), {});
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SoftmaxLossCuda, MatchesOracleAroundTheEdgesOfTiles) {
  for (const auto& [rows, columns, dim] :
       {std::tuple{1, 1, 1}, {1, 2, 4}, {63, 65, 5}, {64, 64, 16}, {65, 63, 17}, {3, 130, 64}}) {
    SCOPED_TRACE(::testing::Message() << rows << " x " << columns << " x " << dim);
    expect_oracle(make_loss_case(rows, columns, dim));
  }
}

TEST(SoftmaxLossCuda, MatchesOracleWithWeightsLogqAndAllMasks) {
  for (int64_t dim : {3, 68}) {  // one and two blocks of dimensions, both load paths
    LossCase c = make_loss_case(70, 200, dim);
    c.scale = 0.5F;
    add_everything(c);
    expect_oracle(c);
  }
}

TEST(SoftmaxLossCuda, SeveralTilesPerPart) {
  LossCase c = make_loss_case(2, 32 * 64 + 40, 1);  // more tiles than parts
  add_everything(c);
  expect_oracle(c, 2e-5);
}

TEST(SoftmaxLossCuda, EachMaskAloneMatchesOracle) {
  const LossCase plain = make_loss_case(10, 90, 4);
  LossCase all = plain;
  add_everything(all);
  LossCase accidental = plain, known = plain, excluded = plain;
  accidental.column_item = all.column_item;
  known.column_user = all.column_user;
  known.row_user = all.row_user;
  excluded.exclude_values = all.exclude_values;
  excluded.exclude_offsets = all.exclude_offsets;
  for (int64_t c = 0; c < 90; ++c) excluded.column_item.push_back(c);  // no accidental hits
  for (const LossCase& c : {accidental, known, excluded}) {
    expect_oracle(c);
    EXPECT_NE(run(c).loss, run(plain).loss);
  }
}

TEST(SoftmaxLossCuda, TheTargetIsNeverMasked) {
  LossCase c = make_loss_case(3, 70, 4);
  c.column_item.assign(70, 7);
  c.column_user.assign(70, 1);
  c.row_user.assign(3, 1);
  c.exclude_values = {7, 7, 7};
  c.exclude_offsets = {0, 1, 2, 3};
  const Result r = run(c);
  EXPECT_EQ(r.loss, std::vector<float>(3, 0.0F));
  EXPECT_EQ(r.d_query, std::vector<float>(12, 0.0F));
  EXPECT_EQ(r.d_column, std::vector<float>(280, 0.0F));
}

TEST(SoftmaxLossCuda, ExtremeLogits) {
  LossCase c = make_loss_case(20, 100, 1);
  for (float& q : c.query) q = q < 0 ? -100.0F : 100.0F;
  for (float& v : c.column) v = v < 0 ? -100.0F + v : 100.0F + v;
  c.scale = 1.0F;  // logits around +-1e4 and up to 100 apart
  expect_oracle(c, 1e-3);
  c.scale = 1e30F;
  for (float loss : run(c).loss) EXPECT_TRUE(std::isfinite(loss) && loss >= 0.0F) << loss;
  c = make_loss_case(3, 150, 4);
  std::fill(c.query.begin(), c.query.end(), 0.0F);
  for (float loss : run(c).loss) EXPECT_NEAR(loss, std::log(150.0), 2e-6);
}

TEST(SoftmaxLossCuda, PaddedMatricesKeepTheirPadding) {
  const LossCase c = make_loss_case(5, 70, 4);
  const Result want = run(c);
  for (int64_t ld : {5, 8}) {
    const auto pad = [&](const std::vector<float>& m) {
      std::vector<float> out(static_cast<int64_t>(m.size()) / 4 * ld, 1e9F);
      for (size_t i = 0; i < m.size(); ++i) out[i / 4 * ld + i % 4] = m[i];
      return out;
    };
    OnDevice device(c);
    const DeviceArray<float> query(pad(c.query)), column(pad(c.column)), loss(5), log_z(5),
        d_query(std::vector<float>(5 * ld, 1e9F)), d_column(std::vector<float>(70 * ld, 1e9F));
    device.in.queries = {query.data(), 5, 4, ld};
    device.in.columns = {column.data(), 70, 4, ld};
    softmax_loss_forward(device.in, loss.data(), log_z.data(), kCuda);
    softmax_loss_backward(device.in, log_z.data(), device.grad_loss.data(),
                          {d_query.data(), 5, 4, ld}, {d_column.data(), 70, 4, ld}, nullptr, kCuda);
    EXPECT_EQ(loss.to_host(), want.loss);
    EXPECT_EQ(d_query.to_host(), pad(want.d_query));
    EXPECT_EQ(d_column.to_host(), pad(want.d_column));
  }
}

TEST(SoftmaxLossCuda, RepeatsBitForBit) {
  LossCase c = make_loss_case(40, 150, 7);
  add_everything(c);
  EXPECT_TRUE(run(c) == run(c));
}

TEST(SoftmaxLossCuda, NoRowsGiveZeroGradients) {
  const Result r = run(make_loss_case(0, 3, 2));
  EXPECT_EQ(r.d_column, std::vector<float>(6, 0.0F));
  EXPECT_EQ(r.d_scale[0], 0.0);
}

TEST(SoftmaxLossCuda, ErrorsHaveTheTextOfTheCpu) {
  const LossCase good = make_loss_case(70, 90, 4);
  std::vector<LossCase> bad(8, good);
  bad[0].target[1] = 90;
  bad[1].target[2] = -1;
  bad[2].target[69] = int64_t{1} << 40;
  for (int i : {3, 4, 5}) {
    bad[i].column_item.assign(90, 1);
    bad[i].exclude_values = {1, 2, 3};
    bad[i].exclude_offsets.assign(71, 3);
    bad[i].exclude_offsets[0] = 0;
  }
  bad[3].exclude_offsets[7] = 2;
  bad[4].exclude_offsets[0] = 1;
  bad[5].exclude_values = {1, 3, 2};
  bad[6].query[66 * 4 + 2] = std::numeric_limits<float>::quiet_NaN();
  bad[7].column[80 * 4] = std::numeric_limits<float>::quiet_NaN();
  for (const LossCase& c : bad) {
    const std::string expected = error_of(c, false);
    EXPECT_NE(expected, "no error");
    EXPECT_EQ(error_of(c, true), expected);
  }
}

// The terms of an infinite number are infinite and NaN, so here every row is refused, where the CPU
// refuses those whose logit is not minus infinity.
TEST(SoftmaxLossCuda, RefusesInfiniteColumns) {
  LossCase c = make_loss_case(70, 90, 4);
  c.column[80 * 4] = std::numeric_limits<float>::infinity();
  EXPECT_NE(error_of(c, true).find("row 0 is nan"), std::string::npos) << error_of(c, true);
}

}  // namespace
}  // namespace hypertower::test
