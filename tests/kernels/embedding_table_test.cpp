// Tables of 16-bit and int8 rows: encoding, lookups, steps with stochastic rounding.
#include "kernels/embedding_table.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/row_codec.h"
#include "kernels/error.h"
#include "kernels/stochastic_rounding.h"
#include "tests/kernels/embedding_oracle.h"
#include "tests/kernels/simd_targets.h"

namespace hypertower::test {
namespace {

constexpr RowFormat kFormats[] = {RowFormat::kFloat32, RowFormat::kBfloat16, RowFormat::kFloat16,
                                  RowFormat::kInt8};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A table in memory of its own, rows `padding` bytes further apart than they must be.
struct OwnTable {
  std::vector<std::byte> bytes;
  Table view;

  OwnTable(int64_t rows, int64_t cols, RowFormat format, int64_t padding = 0)
      : bytes(rows * (row_bytes(format, cols) + padding)),
        view(bytes.data(), rows, cols, row_bytes(format, cols) + padding, format) {}
  OwnTable(const std::vector<float>& values, int64_t cols, RowFormat format, int64_t padding = 0)
      : OwnTable(static_cast<int64_t>(values.size()) / cols, cols, format, padding) {
    encode_rows({values.data(), view.rows, cols}, view, 2);
  }
  OwnTable(const OwnTable&) = delete;

  std::vector<float> decoded() const {
    std::vector<float> values(view.rows * view.cols);
    decode_rows(view, {values.data(), view.rows, view.cols}, 1);
    return values;
  }
};

TEST(RowCodec, RoundsToTheNearestNumberOfEachFormat) {
  EXPECT_EQ(cpu::nearest_bfloat16(1.0F), 0x3f80);
  EXPECT_EQ(cpu::nearest_bfloat16(std::bit_cast<float>(0x3f808000U)), 0x3f80);  // tie to even
  EXPECT_EQ(cpu::nearest_bfloat16(std::bit_cast<float>(0x3f818000U)), 0x3f82);
  EXPECT_EQ(cpu::nearest_float16(65504.0F), 0x7bff);
  EXPECT_EQ(cpu::nearest_float16(0x1p-24F), 1);
  EXPECT_EQ(cpu::nearest_float16(0x1p-25F), 0);  // tie to even
  EXPECT_EQ(cpu::nearest_float16(-0x1.8p-24F), 0x8002);
  EXPECT_EQ(cpu::nearest_float16(0x1.ffcp-15F), 0x0400);  // up into the normal numbers
  // Every binary16 number survives the way to float and back.
  for (uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const Float16 x{static_cast<uint16_t>(bits)};
    const float value = cpu::float_of(x);
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(cpu::nearest_float16(value), bits);
  }
  EXPECT_EQ(cpu::float_of(Float16{0x7c00}), kInfinity);
  EXPECT_TRUE(std::isnan(cpu::float_of(Float16{0x7e00})));
}

TEST(EmbeddingTable, DecodedRowsAreWithinTheErrorOfTheFormat) {
  std::mt19937 rng(3);
  for (int64_t cols : kDims) {
    const std::vector<float> values = random_floats(9 * cols, rng);
    for (RowFormat format : kFormats) {
      const OwnTable table(values, cols, format, 4);
      const std::vector<float> got = table.decoded();
      for (int64_t r = 0; r < 9; ++r) {
        const auto [min, max] =
            std::minmax_element(values.begin() + r * cols, values.begin() + (r + 1) * cols);
        for (int64_t c = 0; c < cols; ++c) {
          const float want = values[r * cols + c];
          float bound = 0.0F;
          if (format == RowFormat::kBfloat16) bound = 0x1p-8F * std::abs(want);
          if (format == RowFormat::kFloat16) bound = std::max(0x1p-11F * std::abs(want), 0x1p-25F);
          if (format == RowFormat::kInt8) bound = (*max - *min) / 510 * 1.0001F + 1e-7F;
          ASSERT_NEAR(got[r * cols + c], want, bound) << row_format_name(format);
        }
      }
    }
  }
}

TEST(EmbeddingTable, Int8RowsOfOneValueAndOfHugeRangeAreExact) {
  const float big = std::numeric_limits<float>::max();
  const std::vector<float> values = {0.3F, 0.3F, 0.3F, 0, 0, 0, -big, 0.0F, big};
  const OwnTable table(values, 3, RowFormat::kInt8);
  const std::vector<float> got = table.decoded();
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(got[i], values[i]);
  EXPECT_EQ(got[6], -big);
  EXPECT_NEAR(got[8] / big, 1.0F, 1e-6F);
}

TEST(EmbeddingTable, NumbersThatDoNotFitAreNamed) {
  const auto message = [](float value, RowFormat format) -> std::string {
    std::vector<float> values = {0, 1, 2, 3, value, 5};
    try {
      const OwnTable table(values, 3, format);
    } catch (const Error& error) {
      return error.what();
    }
    return "fits";
  };
  EXPECT_EQ(message(70000.0F, RowFormat::kFloat16),
            "encode_rows: expected finite numbers that fit float16, got 70000.000000 in row 1, "
            "column 1.");
  EXPECT_EQ(message(70000.0F, RowFormat::kBfloat16), "fits");
  for (RowFormat format : kFormats) {
    EXPECT_NE(message(kInfinity, format), "fits");
    EXPECT_NE(message(std::nanf(""), format), "fits");
  }
}

TEST(EmbeddingTable, LookupsOfEveryFormatAreThoseOfTheDecodedRows) {
  testing::for_each_simd_target([] {
    for (int64_t dim : kDims) {
      for (bool weighted : {false, true}) {
        Lookup lookup =
            make_lookup(30, dim, kLengths, weighted ? Pool::kMean : Pool::kSum, weighted);
        for (RowFormat format : kFormats) {
          const OwnTable table(lookup.table, dim, format, format == RowFormat::kInt8 ? 4 : 2 * 4);
          Lookup decoded = lookup;
          decoded.table = table.decoded();
          std::vector<float> out(lookup.num_bags() * dim);
          embedding_bag(table.view, lookup.bags(), lookup.pool, BadIds::kThrow,
                        {out.data(), lookup.num_bags(), dim}, {});
          const std::vector<double> want = oracle_forward(decoded);
          for (size_t i = 0; i < out.size(); ++i) {
            ASSERT_NEAR(out[i], want[i], 3e-5 * (1 + std::abs(want[i])))
                << row_format_name(format) << " dim " << dim << " element " << i;
          }
          std::vector<float> weight_gradient(lookup.ids.size());
          embedding_weight_gradient(table.view, lookup.bags(), lookup.pool, lookup.grad_view(),
                                    weight_gradient.data(), {});
          const std::vector<double> want_gradient = oracle_weight_gradient(decoded);
          for (size_t i = 0; i < weight_gradient.size(); ++i) {
            ASSERT_NEAR(weight_gradient[i], want_gradient[i], 1e-4) << row_format_name(format);
          }
        }
      }
    }
  });
}

// What a step may write: `value` rounded with the random bits of its place.
uint16_t rounded(RowFormat format, float value, const OptimizerStep& step, int64_t row, int64_t c) {
  const uint32_t random = rounding::random_bits(
      rounding::row_key(rounding::step_key(step.seed, step.step), row), static_cast<uint32_t>(c));
  return format == RowFormat::kBfloat16 ? rounding::to_bfloat16(value, random)
                                        : rounding::to_float16(value, random);
}

TEST(EmbeddingTable, StepsOn16BitRowsRoundAsSpecifiedOnEveryInstructionSet) {
  testing::for_each_simd_target([] {
    for (RowFormat format : {RowFormat::kBfloat16, RowFormat::kFloat16}) {
      for (int64_t dim : {1, 5, 16, 37, 128}) {
        // From far below the smallest binary16 number to beyond the largest.
        std::mt19937 rng(dim);
        std::vector<float> gradient(3 * dim);
        for (size_t i = 0; i < gradient.size(); ++i) {
          gradient[i] = std::ldexp(random_floats(1, rng)[0], static_cast<int>(i % 45) - 27);
        }
        OwnTable table(std::vector<float>(10 * dim, 0.5F), dim, format);
        const std::vector<int64_t> rows = {7, 0, 3};
        const OptimizerStep step{.kind = Optimizer::kSgd, .lr = 1.0F, .step = 12, .seed = 99};
        apply_row_gradient(table.view, {}, {}, rows.data(), {gradient.data(), 3, dim}, step, {});
        for (int64_t i = 0; i < 3; ++i) {
          for (int64_t c = 0; c < dim; ++c) {
            uint16_t got;
            std::memcpy(&got, table.view.row(rows[i]) + 2 * c, 2);
            const float next = 0.5F - gradient[i * dim + c];
            ASSERT_EQ(got, rounded(format, next, step, rows[i], c))
                << row_format_name(format) << " " << next;
          }
        }
      }
    }
  });
}

TEST(StochasticRounding, IsRightOnAverageAndKeepsExactNumbers) {
  constexpr int kDraws = 100'000;
  for (float value : {1.0F, 1.001F, -3.14159F, 1e-3F, 3e-5F, -1.7e-6F, 2e-8F, 60000.5F}) {
    for (RowFormat format : {RowFormat::kBfloat16, RowFormat::kFloat16}) {
      double sum = 0.0, squares = 0.0;
      for (int i = 0; i < kDraws; ++i) {
        const uint16_t bits = rounded(format, value, {.step = i, .seed = 5}, i % 77, i % 13);
        const double got = format == RowFormat::kBfloat16 ? cpu::float_of(Bfloat16{bits})
                                                          : cpu::float_of(Float16{bits});
        sum += got;
        squares += (got - value) * (got - value);
      }
      const double deviation = std::sqrt(squares / kDraws);
      EXPECT_NEAR(sum / kDraws, value, 4 * deviation / std::sqrt(kDraws) + 1e-12)
          << row_format_name(format);
      if (value == 1.0F) {
        EXPECT_EQ(deviation, 0.0);
      }
    }
  }
  EXPECT_EQ(rounding::to_float16(1e30F, ~0U), 0x7bff);
  EXPECT_EQ(rounding::to_float16(-kInfinity, 0), 0xfbff);
  EXPECT_EQ(rounding::to_bfloat16(kInfinity, ~0U), 0x7f80);
  EXPECT_TRUE(std::isnan(cpu::float_of(Bfloat16{rounding::to_bfloat16(std::nanf(""), ~0U)})));
  EXPECT_TRUE(std::isnan(cpu::float_of(Float16{rounding::to_float16(std::nanf(""), ~0U)})));
}

// Small steps, each far below the distance of two bfloat16 numbers, add up.
TEST(EmbeddingTable, ManySmallStepsOn16BitRowsAreNotLost) {
  for (Optimizer kind : kOptimizers) {
    for (RowFormat format : {RowFormat::kBfloat16, RowFormat::kFloat16}) {
      Lookup lookup = make_lookup(4, 64, {1, 1, 1, 1}, Pool::kSum, false);
      lookup.ids = {0, 1, 2, 3};
      std::fill(lookup.table.begin(), lookup.table.end(), 1.0F);
      std::fill(lookup.grad.begin(), lookup.grad.end(), 1.0F);
      OwnTable table(lookup.table, 64, format);
      OracleTable oracle(lookup.table, 64);
      std::vector<float> state0(4 * 64, 0.0F), state1(4 * 64, 0.0F);
      const EmbeddingPlan plan(4, lookup.bags(), BadIds::kThrow, {});
      OptimizerStep step{.kind = kind, .lr = 2e-4F, .eps = 1e-8F};
      for (step.step = 1; step.step <= 500; ++step.step) {
        embedding_backward(table.view, {state0.data(), 4, state0_cols(kind, 64)},
                           {state1.data(), 4, state1_cols(kind, 64)}, plan, lookup.bags(),
                           Pool::kSum, lookup.grad_view(), step, {});
        oracle.step(oracle_row_gradient(lookup), step);
      }
      double mean = 0.0;
      for (float w : table.decoded()) mean += w / (4 * 64);
      EXPECT_NEAR(mean, oracle.weight[0], 0.1 * std::abs(1 - oracle.weight[0]) + 1e-3)
          << static_cast<int>(kind) << " " << row_format_name(format);
    }
  }
}

TEST(EmbeddingTable, RoundingOfARowDoesNotDependOnTheRestOfTheBatch) {
  const Lookup all = make_lookup(100, 32, std::vector<int64_t>(200, 3), Pool::kSum, false);
  Lookup one = all;
  one.ids = {42};
  one.offsets = {0, 1};
  one.grad.resize(32);
  OwnTable small(all.table, 32, RowFormat::kBfloat16), large(all.table, 32, RowFormat::kBfloat16);
  const std::vector<int64_t> rows = {3, 42, 99};
  const std::vector<float> gradient(3 * 32, 0.01F);
  const OptimizerStep step{.kind = Optimizer::kSgd, .step = 4, .seed = 1};
  apply_row_gradient(large.view, {}, {}, rows.data(), {gradient.data(), 3, 32}, step, {});
  apply_row_gradient(small.view, {}, {}, rows.data() + 1, {gradient.data(), 1, 32}, step, {});
  EXPECT_EQ(std::memcmp(small.view.row(42), large.view.row(42), 64), 0);
}

TEST(EmbeddingTable, Int8RowsAreNotTrainedAndLayoutsAreChecked) {
  const Lookup lookup = make_lookup(10, 6, {2, 3}, Pool::kSum, false);
  OwnTable table(lookup.table, 6, RowFormat::kInt8);
  const EmbeddingPlan plan(10, lookup.bags(), BadIds::kThrow, {});
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([&] {
              embedding_backward(table.view, {}, {}, plan, lookup.bags(), Pool::kSum,
                                 lookup.grad_view(), {.kind = Optimizer::kSgd}, {});
            }),
            "embedding_backward: int8 rows are for serving and cannot be trained; train float32, "
            "bfloat16 or float16 rows and encode them afterwards.");
  std::vector<float> out(2 * 6);
  Table narrow = table.view;
  narrow.stride = 12;
  EXPECT_EQ(
      message([&] {
        embedding_bag(narrow, lookup.bags(), Pool::kSum, BadIds::kThrow, {out.data(), 2, 6}, {});
      }),
      "embedding_bag: expected a table of 10 x 6 int8 with rows at least 16 bytes apart, all "
      "at multiples of 4 bytes, got a stride of 12.");
}

}  // namespace
}  // namespace hypertower::test
