#include "kernels/finite_rows.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace hypertower {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(FirstNonFiniteRow, FindsTheFirst) {
  std::vector<float> x(12, 1.0F);
  EXPECT_EQ(first_non_finite_row({x.data(), 4, 3}), -1);
  x[10] = kInfinity;
  EXPECT_EQ(first_non_finite_row({x.data(), 4, 3}), 3);
  x[5] = kNan;
  EXPECT_EQ(first_non_finite_row({x.data(), 4, 3}), 1);
  EXPECT_EQ(first_non_finite_row({x.data(), 4, 2, 3}), 3) << "padding is not looked at";
  EXPECT_EQ(first_non_finite_row({nullptr, 0, 3}), -1);
  EXPECT_EQ(first_non_finite_row({x.data(), 4, 0, 3}), -1);
}

TEST(FirstNonFiniteRow, LooksAtEveryColumn) {
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    for (int64_t c = 0; c < 37; ++c) {
      std::vector<float> x(5 * 37, -std::numeric_limits<float>::max());
      x[2 * 37 + c] = bad;
      EXPECT_EQ(first_non_finite_row({x.data(), 5, 37}), 2) << c;
    }
  }
}

TEST(FirstNonFiniteRow, IsTheFirstForAnyNumberOfThreads) {
  std::vector<float> x(3'000'000, 0.5F);
  for (const int64_t row : {2'999, 1'500, 1'499, 7}) {
    x[row * 1000 + row % 1000] = kNan;
    for (const int threads : {1, 2, 5}) {
      EXPECT_EQ(first_non_finite_row({x.data(), 3000, 1000}, threads), row);
    }
  }
}

}  // namespace
}  // namespace hypertower
