#include "kernels/cpu/topk_route.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

namespace hypertower::cpu {
namespace {

// Nanoseconds on one core of a current server, roughly; only their ratios matter.
constexpr double kReadInt8 = 0.06;         // a number of a tile, from memory
constexpr double kScoreInt8 = 0.0052;      // a number of a tile for one more row
constexpr double kPackInt8 = 0.3;          // a number of an item that is moved to another tile
constexpr double kTestMask = 4.0;          // the mask bit of an item
constexpr double kTestCandidate = 4.0;     // of an item that reaches the gate
constexpr double kReadFloat = 0.8;         // a number of an item row somewhere in memory
constexpr double kScoreExactly = 0.12;     // a number of an item row for one more row
constexpr double kCandidatesPerKey = 8.0;  // first-pass candidates of a scan over those wanted

int64_t count_passing(const uint64_t* mask, int64_t items) {
  int64_t count = 0;
  for (int64_t w = 0; w < items / 64; ++w) count += std::popcount(mask[w]);
  if (items % 64 != 0) {
    count += std::popcount(mask[items / 64] & ((uint64_t{1} << (items % 64)) - 1));
  }
  return count;
}

// Rows of one mask, of `batch` rows in all.
RowSet::How cheapest(int64_t rows, int64_t batch, int64_t items, int64_t passing, int64_t dim,
                     int64_t keep) {
  const auto r = static_cast<double>(rows), n = static_cast<double>(items),
             m = static_cast<double>(passing), d = static_cast<double>(dim);
  const double candidates =
      std::min(n, kCandidatesPerKey * static_cast<double>(keep) * n / std::max(m, 1.0));
  const double test = n * d * r * std::max(kScoreInt8, kReadInt8 / static_cast<double>(batch)) +
                      r * candidates * kTestCandidate;
  const double lines_read = 1.0 - std::pow(1.0 - m / n, 16.0);  // one line has 16 items' columns
  const double pack =
      n * (d * kReadInt8 * lines_read + kTestMask) + m * d * (kPackInt8 + kScoreInt8 * r);
  const double gather = m * d * (kReadFloat + kScoreExactly * r);
  if (gather < std::min(test, pack)) return RowSet::How::kGather;
  return pack < test ? RowSet::How::kPack : RowSet::How::kScan;
}

bool is_wide(const ScanRow& row, int64_t dim) {
  return std::any_of(row.query, row.query + dim,
                     [](float x) { return std::fabs(x) > kMaxMagnitude; });
}

}  // namespace

std::vector<RowSet> route(std::vector<ScanRow> rows, int64_t items, int64_t dim, int64_t keep,
                          const SearchOptions& options) {
  const auto batch = static_cast<int64_t>(rows.size());
  RowSet scan, exact{RowSet::How::kExact, {}};
  std::map<const uint64_t*, std::vector<ScanRow>> by_mask;
  for (ScanRow& row : rows) {
    if (dim < 1 || dim > kMaxDim || is_wide(row, dim)) {
      exact.rows.push_back(std::move(row));
    } else if (row.mask == nullptr) {
      scan.rows.push_back(std::move(row));
    } else {
      by_mask[row.mask].push_back(std::move(row));
    }
  }
  std::vector<RowSet> sets;
  for (auto& [mask, of_mask] : by_mask) {
    const auto how = [&, mask = mask, count = static_cast<int64_t>(of_mask.size())] {
      switch (options.masks) {
        case MaskRoute::kTest:
          return RowSet::How::kScan;
        case MaskRoute::kPack:
          return RowSet::How::kPack;
        case MaskRoute::kGather:
          return RowSet::How::kGather;
        case MaskRoute::kByCost:
          break;
      }
      return cheapest(count, batch, items, count_passing(mask, items), dim, keep);
    }();
    if (how == RowSet::How::kScan) {
      std::move(of_mask.begin(), of_mask.end(), std::back_inserter(scan.rows));
    } else {
      sets.push_back({how, std::move(of_mask)});
    }
  }
  if (!scan.rows.empty()) sets.push_back(std::move(scan));
  if (!exact.rows.empty()) sets.push_back(std::move(exact));
  return sets;
}

std::vector<uint32_t> passing_items(const Shard& shard, const uint64_t* mask) {
  std::vector<uint32_t> items;
  const int64_t first = shard.first_id, end = first + shard.rows.rows;
  for (int64_t w = first / 64; w * 64 < end; ++w) {
    uint64_t bits = shard.live == nullptr ? mask[w] : mask[w] & shard.live[w];
    for (; bits != 0; bits &= bits - 1) {
      const int64_t id = w * 64 + std::countr_zero(bits);
      if (id >= first && id < end) items.push_back(static_cast<uint32_t>(id - first));
    }
  }
  return items;
}

}  // namespace hypertower::cpu
