// Sort and scan against the standard library.
#include "kernels/cuda/sort.h"
#include "kernels/error.h"
#include "tests/cuemu/device_array.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace hypertower::cuda {
namespace {

using hypertower::testing::DeviceArray;

template <class Key>
class SortPairs : public ::testing::Test {};
using Keys = ::testing::Types<uint32_t, uint64_t>;
TYPED_TEST_SUITE(SortPairs, Keys);

template <class Key>
void expect_sorted(const std::vector<Key>& keys, int begin_bit, int end_bit) {
  const auto n = static_cast<int64_t>(keys.size());
  std::vector<uint32_t> values(keys.size());
  std::iota(values.begin(), values.end(), 0U);
  const DeviceArray<Key> keys_in(keys);
  const DeviceArray<Key> keys_out(keys.size());
  const DeviceArray<uint32_t> values_in(values);
  const DeviceArray<uint32_t> values_out(keys.size());
  const DeviceArray<char> workspace(sort_pairs_workspace_bytes<Key>(n, begin_bit, end_bit));
  sort_pairs<Key>(workspace.data(), workspace.size(), keys_in.data(), keys_out.data(),
                  values_in.data(), values_out.data(), n, begin_bit, end_bit, nullptr);
  const auto digit = [&](uint32_t i) {
    const uint64_t bits = uint64_t{keys[i]} >> begin_bit;
    const int width = end_bit - begin_bit;
    return width == 64 ? bits : bits & ((uint64_t{1} << width) - 1);
  };
  std::stable_sort(values.begin(), values.end(),
                   [&](uint32_t a, uint32_t b) { return digit(a) < digit(b); });
  EXPECT_EQ(values_out.to_host(), values);
  std::vector<Key> sorted;
  for (const uint32_t i : values) sorted.push_back(keys[i]);
  EXPECT_EQ(keys_out.to_host(), sorted);
  EXPECT_EQ(keys_in.to_host(), keys);
}

TYPED_TEST(SortPairs, IsStableOnAnyRangeOfBits) {
  constexpr int kBits = 8 * sizeof(TypeParam);
  std::mt19937_64 random(1);
  for (const size_t n : {0, 1, 2, 33, 1000}) {
    std::vector<TypeParam> keys(n);
    for (TypeParam& key : keys) key = static_cast<TypeParam>(random());
    expect_sorted(keys, 0, kBits);
    expect_sorted(keys, 0, 3);
    expect_sorted(keys, kBits - 5, kBits);
    expect_sorted(keys, 7, 18);
  }
}

TYPED_TEST(SortPairs, KeepsTheOrderOfEqualKeys) {
  expect_sorted(std::vector<TypeParam>(100, TypeParam{7}), 0, 8 * sizeof(TypeParam));
}

TYPED_TEST(SortPairs, RefusesBadArguments) {
  EXPECT_THROW(sort_pairs_workspace_bytes<TypeParam>(-1, 0, 8), Error);
  EXPECT_THROW(sort_pairs_workspace_bytes<TypeParam>(1, 8, 8), Error);
  EXPECT_THROW(sort_pairs_workspace_bytes<TypeParam>(1, 0, 8 * sizeof(TypeParam) + 1), Error);
  const DeviceArray<TypeParam> keys(10);
  const DeviceArray<uint32_t> values(10);
  EXPECT_THROW(sort_pairs<TypeParam>(nullptr, 0, keys.data(), keys.data(), values.data(),
                                     values.data(), 10, 0, 8, nullptr),
               Error);
}

TEST(ExclusiveScan, SumsWhatComesBefore) {
  std::mt19937_64 random(2);
  for (const size_t n : {0, 1, 5, 1000}) {
    std::vector<int64_t> counts(n);
    for (int64_t& count : counts) count = static_cast<int64_t>(random() % (uint64_t{1} << 40));
    const DeviceArray<int64_t> in(counts);
    const DeviceArray<int64_t> out(n);
    const auto size = static_cast<int64_t>(n);
    const DeviceArray<char> workspace(exclusive_scan_workspace_bytes(size));
    exclusive_scan(workspace.data(), workspace.size(), in.data(), out.data(), size, nullptr);
    std::vector<int64_t> expected(n);
    std::exclusive_scan(counts.begin(), counts.end(), expected.begin(), int64_t{0});
    EXPECT_EQ(out.to_host(), expected);
    exclusive_scan(workspace.data(), workspace.size(), in.data(), in.data(), size, nullptr);
    EXPECT_EQ(in.to_host(), expected);
  }
}

}  // namespace
}  // namespace hypertower::cuda
