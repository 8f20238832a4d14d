// Rows of a scan in groups of up to eight, as the first pass takes them: quantised for int8 tiles,
// or column by column for single precision.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/topk_scan.h"

namespace hypertower::cpu {

// A row's first-pass scores are (score - center) / scale.
struct RowUnits {
  double center = 0.0;
  float scale = 1.0F;
  // The gate that stands for "a canonical score of at least `lower`": rounded down by more than
  // the rounding of the canonical score and of the division.
  float gate(float lower) const;
  // An exact score in these units, rounded up.
  float upper(float exact) const;
};

// Immutable once built; threads copy the groups and move the gates of their copies.
class RowGroups {
 public:
  // `tiles` is null for single precision.
  RowGroups(std::span<const ScanRow> rows, int64_t dim, const Tiles* tiles);

  int64_t rows() const { return static_cast<int64_t>(units_.size()); }
  const std::vector<QueryGroup>& groups() const { return groups_; }
  // The rows' queries as floats, [dim, 8] per group; single precision only.
  const float* floats(int64_t group) const { return floats_.data() + group * dim_ * kMaxGroup; }
  const RowUnits& units(int64_t row) const { return units_[static_cast<size_t>(row)]; }

 private:
  void add_int8(std::span<const ScanRow> rows, int64_t first, int width, const Tiles& tiles);
  void add_floats(std::span<const ScanRow> rows, int64_t first);

  int64_t dim_;
  std::vector<QueryGroup> groups_;
  std::vector<RowUnits> units_;
  std::vector<int8_t> bytes_;
  std::vector<float> floats_;
};

}  // namespace hypertower::cpu
