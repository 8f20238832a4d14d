#include "kernels/cpu/topk_route.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

// Nanoseconds on one core of a current server, roughly; only their ratios matter.
constexpr double kReadInt8 = 0.06;         // a number of a tile, from memory
constexpr double kScoreInt8 = 0.0052;      // a number of a tile for one more row
constexpr double kPackInt8 = 0.06;         // a number of an item that is moved to another tile
constexpr double kTestMask = 2.0;          // the mask bit of an item
constexpr double kTestCandidate = 8.0;     // of an item that reaches the gate
constexpr double kPick = 12.0;             // an item that passes: its place
constexpr double kPickInt8 = 0.12;         // a number of it
constexpr double kOpen = 1.5;              // an item, to know the places of all
constexpr double kReadFloat = 0.85;        // a number of an item row somewhere in memory
constexpr double kScoreExactly = 0.1;      // a number of an item row for one more row
constexpr double kFindKey = 1000.0;        // of a first pass: its hits, cuts and exact scores
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
  const double keys = r * static_cast<double>(keep) * kFindKey;
  const double test = n * d * r * std::max(kScoreInt8, kReadInt8 / static_cast<double>(batch)) +
                      r * candidates * kTestCandidate + keys;
  // One line has the columns of 16 items; of scattered lines fewer come in the same time.
  const double lines_read = 1.0 - std::pow(1.0 - m / n, 16.0);
  const double pack = n * (d * kReadInt8 * std::sqrt(lines_read) + kTestMask) +
                      m * d * (kPackInt8 + kScoreInt8 * r) + keys;
  const double pick = n * (d * kReadInt8 + kOpen) * r / static_cast<double>(batch) +
                      m * r * (d * kPickInt8 + kPick) + keys;
  const double gather = m * d * (kReadFloat + kScoreExactly * r);
  const double least = std::min({test, pack, pick, gather});
  if (least == gather) return RowSet::How::kGather;
  if (least == pick) return RowSet::How::kPick;
  return least == pack ? RowSet::How::kPack : RowSet::How::kScan;
}

// For rows of one mask.
RowSet::How how_to_search(const std::vector<ScanRow>& rows, int64_t batch, int64_t items,
                          int64_t dim, int64_t keep, MaskRoute wanted) {
  switch (wanted) {
    case MaskRoute::kTest:
      return RowSet::How::kScan;
    case MaskRoute::kPack:
      return RowSet::How::kPack;
    case MaskRoute::kPick:
      return RowSet::How::kPick;
    case MaskRoute::kGather:
      return RowSet::How::kGather;
    case MaskRoute::kByCost:
      break;
  }
  return cheapest(static_cast<int64_t>(rows.size()), batch, items,
                  count_passing(rows.front().mask, items), dim, keep);
}

bool is_wide(const ScanRow& row, int64_t dim) {
  return std::any_of(row.query, row.query + dim,
                     [](float x) { return std::fabs(x) > kMaxMagnitude; });
}

}  // namespace

std::vector<RowSet> route(std::vector<ScanRow> rows, int64_t items, int64_t dim, int64_t keep,
                          const SearchOptions& options, int threads) {
  const auto batch = static_cast<int64_t>(rows.size());
  RowSet scan, pick{RowSet::How::kPick, {}}, exact{RowSet::How::kExact, {}};
  std::map<const uint64_t*, size_t> place_of_mask;
  std::vector<std::vector<ScanRow>> by_mask;
  for (ScanRow& row : rows) {
    if (dim < 1 || dim > kMaxDim || is_wide(row, dim)) {
      exact.rows.push_back(std::move(row));
    } else if (row.mask == nullptr) {
      scan.rows.push_back(std::move(row));
    } else {
      const size_t place = place_of_mask.try_emplace(row.mask, by_mask.size()).first->second;
      if (place == by_mask.size()) by_mask.emplace_back();
      by_mask[place].push_back(std::move(row));
    }
  }
  const auto masks = static_cast<int64_t>(by_mask.size());
  std::vector<RowSet::How> hows(by_mask.size());
  parallel_for(threads, masks, 1, [&](int64_t m, int64_t) {
    hows[m] = how_to_search(by_mask[m], batch, items, dim, keep, options.masks);
  });
  std::vector<RowSet> sets;
  for (int64_t m = 0; m < masks; ++m) {
    std::vector<ScanRow>& of_mask = by_mask[m];
    const RowSet::How how = hows[m];
    if (how == RowSet::How::kScan || how == RowSet::How::kPick) {
      std::move(of_mask.begin(), of_mask.end(),
                std::back_inserter(how == RowSet::How::kScan ? scan.rows : pick.rows));
    } else {
      sets.push_back({how, std::move(of_mask)});
    }
  }
  for (RowSet* set : {&scan, &pick, &exact}) {
    if (!set->rows.empty()) sets.push_back(std::move(*set));
  }
  return sets;
}

std::vector<uint32_t> passing_items(const Shard& shard, const uint64_t* mask) {
  std::vector<uint32_t> items;
  for_each_passing(shard, mask, 0, shard.rows.rows,
                   [&](int64_t item) { items.push_back(static_cast<uint32_t>(item)); });
  return items;
}

int64_t count_passing(const Shard& shard, const uint64_t* mask) {
  int64_t count = 0;
  for_each_passing(shard, mask, 0, shard.rows.rows, [&](int64_t) { ++count; });
  return count;
}

}  // namespace hypertower::cpu
