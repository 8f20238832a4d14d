#include "kernels/cpu/topk_groups.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace hypertower::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

float norm_of(const float* x, int64_t dim) {
  double squares = 0.0;
  for (int64_t j = 0; j < dim; ++j) squares += double{x[j]} * x[j];
  return static_cast<float>(std::sqrt(squares) * (1.0 + 0x1p-20));
}

}  // namespace

float RowUnits::gate(float lower) const {
  if (!(lower > -kInf)) return -kInf;
  if (lower == kInf) return kInf;
  const double slack = std::fabs(double{lower}) * 0x1p-20 + std::fabs(center) * 0x1p-40 + 0x1p-126;
  const double units = (double{lower} - slack - center) / scale;
  const double rounded = units - std::fabs(units) * 0x1p-22;
  constexpr double kMax = std::numeric_limits<float>::max();
  if (rounded >= kMax) return std::numeric_limits<float>::max();
  return rounded <= -kMax ? -kInf : static_cast<float>(rounded);
}

float RowUnits::upper(float exact) const {
  if (std::isinf(exact)) return exact;
  const double slack = std::fabs(double{exact}) * 0x1p-20 + std::fabs(center) * 0x1p-40 + 0x1p-126;
  const double units = (double{exact} + slack - center) / scale;
  return static_cast<float>(units + std::fabs(units) * 0x1p-22);
}

RowGroups::RowGroups(std::span<const ScanRow> rows, int64_t dim, const Tiles* tiles)
    : dim_(dim), units_(rows.size()) {
  const auto count = static_cast<int64_t>(rows.size());
  if (tiles != nullptr) {
    bytes_.resize(static_cast<size_t>((count + kMaxGroup) * steps_of(dim) * 4));
  } else {
    floats_.resize(static_cast<size_t>((count + kMaxGroup - 1) / kMaxGroup * kMaxGroup * dim));
  }
  for (int64_t first = 0; first < count; first += kMaxGroup) {
    const int64_t left = std::min<int64_t>(kMaxGroup, count - first);
    groups_.emplace_back();
    if (tiles != nullptr) {
      add_int8(rows, first, static_cast<int>(std::bit_ceil(static_cast<uint64_t>(left))), *tiles);
    } else {
      add_floats(rows, first);
    }
  }
}

void RowGroups::add_int8(std::span<const ScanRow> rows, int64_t first, int width,
                         const Tiles& tiles) {
  const int64_t steps = steps_of(dim_);
  QueryGroup& group = groups_.back();
  int8_t* bytes = bytes_.data() + first * steps * 4;
  group.bytes = bytes;
  group.width = width;
  std::vector<int8_t> coded(static_cast<size_t>(steps * 4));
  for (int q = 0; q < kMaxGroup; ++q) {
    group.gate[q] = kInf;
    group.norm[q] = group.residual[q] = 0.0F;
    group.offset[q] = 0;
    if (q >= width) continue;
    std::fill(coded.begin(), coded.end(), int8_t{0});
    if (first + q < static_cast<int64_t>(rows.size())) {
      const float* query = rows[static_cast<size_t>(first + q)].query;
      const QuantizedQuery row =
          quantize_query(query, dim_, tiles.center, tiles.weight, coded.data());
      units_[static_cast<size_t>(first + q)] = {row.center, row.scale};
      group.gate[q] = -kInf;
      group.norm[q] = row.norm / row.scale * (1.0F + 0x1p-20F);
      group.residual[q] = row.residual / row.scale * (1.0F + 0x1p-20F);
      for (const int8_t e : coded) group.offset[q] += 128 * e;
    }
    for (int64_t k = 0; k < steps; ++k) {
      std::memcpy(bytes + (k * width + q) * 4, coded.data() + k * 4, 4);
    }
  }
}

void RowGroups::add_floats(std::span<const ScanRow> rows, int64_t first) {
  QueryGroup& group = groups_.back();
  group.bytes = nullptr;
  group.width = kMaxGroup;
  float* floats = floats_.data() + first * dim_;
  for (int q = 0; q < kMaxGroup; ++q) {
    const bool present = first + q < static_cast<int64_t>(rows.size());
    const float* query = present ? rows[static_cast<size_t>(first + q)].query : nullptr;
    group.gate[q] = present ? -kInf : kInf;
    group.norm[q] = present ? norm_of(query, dim_) : 0.0F;
    group.residual[q] = 0.0F;
    group.offset[q] = 0;
    for (int64_t j = 0; j < dim_; ++j) floats[j * kMaxGroup + q] = present ? query[j] : 0.0F;
  }
}

}  // namespace hypertower::cpu
