// Tables of 16-bit and int8 rows, and lists of several pieces, on CUDA. The same source runs on the
// emulator and on a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/embedding.h"
#include "kernels/stochastic_rounding.h"
#include "tests/cuemu/device_array.h"
#include "tests/kernels/embedding_oracle.h"

namespace hypertower::test {
namespace {

using hypertower::testing::DeviceArray;

const Exec kCuda{DeviceType::kCuda, 1, nullptr};
constexpr RowFormat kFormats[] = {RowFormat::kFloat32, RowFormat::kBfloat16, RowFormat::kFloat16,
                                  RowFormat::kInt8};

// A table of any format in device memory, and what its rows are as floats.
struct DeviceTable {
  std::vector<std::byte> host;
  DeviceArray<std::byte> device;
  int64_t rows, cols, stride;
  RowFormat format;

  DeviceTable(const std::vector<float>& values, int64_t dim, RowFormat f, int64_t alignment)
      : host(0), device(0), rows(static_cast<int64_t>(values.size()) / dim), cols(dim), format(f) {
    stride = (row_bytes(format, cols) + alignment - 1) / alignment * alignment;
    host.resize(rows * stride);
    encode_rows({values.data(), rows, cols}, {host.data(), rows, cols, stride, format}, 1);
    device = DeviceArray<std::byte>(host);
  }
  Table view() const { return {device.data(), rows, cols, stride, format}; }
  std::vector<float> decoded() const {
    std::vector<float> values(rows * cols);
    decode_rows({host.data(), rows, cols, stride, format}, {values.data(), rows, cols}, 1);
    return values;
  }
};

struct DeviceLookup {
  const Lookup& host;
  DeviceArray<int64_t> ids, offsets;
  DeviceArray<float> weights, grad;

  explicit DeviceLookup(const Lookup& l)
      : host(l), ids(l.ids), offsets(l.offsets), weights(l.weights), grad(l.grad) {}
  Bags bags() const {
    return {ids.data(), offsets.data(), weights.data(), host.num_ids(), host.num_bags(), "genres"};
  }
  MatrixView<const float> grad_view() const { return {grad.data(), host.num_bags(), host.dim}; }
};

std::vector<float> look_up(const DeviceTable& table, const DeviceLookup& lookup) {
  const int64_t bags = lookup.host.num_bags();
  const DeviceArray<float> out(std::vector<float>(bags * table.cols, -7.0F));
  embedding_bag(table.view(), lookup.bags(), lookup.host.pool, BadIds::kThrow,
                {out.data(), bags, table.cols}, kCuda);
  return out.to_host();
}

TEST(EmbeddingTableCuda, LookupsOfEveryFormatAreThoseOfTheDecodedRows) {
  for (int64_t dim : {3, 8, 16, 40, 144}) {
    for (int64_t alignment : {4, 16}) {
      for (bool weighted : {false, true}) {
        const Lookup lookup =
            make_lookup(7, dim, {0, 1, 4, 9}, weighted ? Pool::kMean : Pool::kSum, weighted);
        const DeviceLookup device(lookup);
        for (RowFormat format : kFormats) {
          const DeviceTable table(lookup.table, dim, format, alignment);
          Lookup decoded = lookup;
          decoded.table = table.decoded();
          const std::vector<float> got = look_up(table, device);
          const std::vector<double> want = oracle_forward(decoded);
          for (size_t i = 0; i < got.size(); ++i) {
            ASSERT_NEAR(got[i], want[i], 3e-5 * (1 + std::abs(want[i])))
                << row_format_name(format) << " dim " << dim << " element " << i;
          }
          const DeviceArray<float> weight_gradient(lookup.ids.size());
          embedding_weight_gradient(table.view(), device.bags(), lookup.pool, device.grad_view(),
                                    weight_gradient.data(), kCuda);
          const std::vector<float> got_weights = weight_gradient.to_host();
          const std::vector<double> want_weights = oracle_weight_gradient(decoded);
          for (size_t i = 0; i < got_weights.size(); ++i) {
            ASSERT_NEAR(got_weights[i], want_weights[i], 1e-4) << row_format_name(format);
          }
        }
      }
    }
  }
}

// Pieces of 256 ids, and their sums, are added in one order everywhere.
TEST(EmbeddingTableCuda, LongBagsHaveTheBitsOfTheCpu) {
  for (int64_t dim : {3, 8}) {
    const Lookup lookup =
        make_lookup(50, dim, {200, 257, 0, 1, 900, 256, 255, 513}, Pool::kMean, false);
    std::vector<float> want(lookup.num_bags() * dim);
    embedding_bag(lookup.table_view(), lookup.bags(), lookup.pool, BadIds::kThrow,
                  {want.data(), lookup.num_bags(), dim}, {});
    EXPECT_EQ(look_up({lookup.table, dim, RowFormat::kFloat32, 4}, DeviceLookup(lookup)), want);
  }
}

TEST(EmbeddingTableCuda, LongRunsHaveTheBitsOfTheCpu) {
  for (int64_t dim : {3, 8}) {
    Lookup lookup = make_lookup(4, dim, std::vector<int64_t>(120, 10), Pool::kSum, false);
    for (size_t e = 0; e < lookup.ids.size(); ++e)
      lookup.ids[e] = e % 8 == 0 ? 3 : e % 8 < 3 ? 0 : 2;
    const EmbeddingPlan host_plan(4, lookup.bags(), BadIds::kThrow, {});
    std::vector<float> want(host_plan.unique_rows() * dim);
    embedding_row_gradient(host_plan, lookup.bags(), lookup.pool, lookup.grad_view(),
                           {want.data(), host_plan.unique_rows(), dim}, {});
    const DeviceLookup device(lookup);
    const EmbeddingPlan plan(4, device.bags(), BadIds::kThrow, kCuda);
    const DeviceArray<float> got(want.size());
    embedding_row_gradient(plan, device.bags(), lookup.pool, device.grad_view(),
                           {got.data(), plan.unique_rows(), dim}, kCuda);
    EXPECT_EQ(got.to_host(), want);

    // The fused step takes the same sums.
    const DeviceTable table(lookup.table, dim, RowFormat::kFloat32, 4);
    embedding_backward(table.view(), {}, {}, plan, device.bags(), lookup.pool, device.grad_view(),
                       {.kind = Optimizer::kSgd, .lr = 1.0F}, kCuda);
    std::vector<float> after = lookup.table;
    for (int64_t i = 0; i < host_plan.unique_rows() * dim; ++i) {
      after[host_plan.rows()[i / dim] * dim + i % dim] -= want[i];
    }
    const std::vector<std::byte> bytes = table.device.to_host();
    for (int64_t r = 0; r < 4; ++r) {
      EXPECT_EQ(std::memcmp(bytes.data() + r * table.stride, after.data() + r * dim, dim * 4), 0);
    }
  }
}

TEST(EmbeddingTableCuda, StepsOn16BitRowsRoundAsSpecified) {
  for (RowFormat format : {RowFormat::kBfloat16, RowFormat::kFloat16}) {
    for (int64_t dim : {5, 12, 132}) {
      std::mt19937 rng(dim);
      std::vector<float> gradient(3 * dim);
      for (size_t i = 0; i < gradient.size(); ++i) {
        gradient[i] = std::ldexp(random_floats(1, rng)[0], static_cast<int>(i % 45) - 27);
      }
      const DeviceTable table(std::vector<float>(10 * dim, 0.5F), dim, format, 8);
      const DeviceArray<float> device_gradient(gradient);
      const std::vector<int64_t> rows = {7, 0, 3};
      const DeviceArray<int64_t> device_rows(rows);
      const OptimizerStep step{.kind = Optimizer::kSgd, .lr = 1.0F, .step = 12, .seed = 99};
      apply_row_gradient(table.view(), {}, {}, device_rows.data(), {device_gradient.data(), 3, dim},
                         step, kCuda);
      const std::vector<std::byte> got = table.device.to_host();
      for (int64_t i = 0; i < 3; ++i) {
        const uint32_t key = rounding::row_key(rounding::step_key(step.seed, step.step), rows[i]);
        for (int64_t c = 0; c < dim; ++c) {
          uint16_t bits;
          std::memcpy(&bits, got.data() + rows[i] * table.stride + 2 * c, 2);
          const float next = 0.5F - gradient[i * dim + c];
          const uint32_t random = rounding::random_bits(key, static_cast<uint32_t>(c));
          ASSERT_EQ(bits, format == RowFormat::kBfloat16 ? rounding::to_bfloat16(next, random)
                                                         : rounding::to_float16(next, random));
        }
      }
    }
  }
}

}  // namespace
}  // namespace hypertower::test
