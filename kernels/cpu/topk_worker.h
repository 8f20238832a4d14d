// One thread's part of a scan: its tiles, its copy of the gates, what it has found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/canonical.h"
#include "kernels/cpu/topk_candidates.h"
#include "kernels/cpu/topk_groups.h"
#include "kernels/cpu/topk_pick.h"
#include "kernels/cpu/topk_scan.h"

namespace hypertower::cpu {

// What all threads of a scan share, read only.
struct ScanPlan {
  const Shard& shard;
  std::span<const ScanRow> rows;
  const RowGroups& groups;
  const double* wide_queries;  // for canonical scores, canonical_stride(dim) apart
  int64_t keep;
  bool int8;
  ScanWay way;
  const PickedItems* picked;  // where that is the way
  const SearchOptions& options;

  int64_t dim() const { return shard.rows.cols; }
  int64_t tiles() const { return tiles_of(shard.rows.rows); }
  // What threads share: tiles, or parts of what was picked.
  int64_t parts() const { return picked == nullptr ? tiles() : picked->parts(); }
  // Canonical scores of those of the first `count` candidates that have none yet. Returns how many.
  int64_t score_exactly(int64_t row, std::vector<Candidate>& list, size_t count) const;
  // The worst of the row's `keep` best candidates by the first pass, exactly: a score that `keep`
  // items reach; -infinity where there are fewer.
  float proven_score(int64_t row, Candidates& found, int64_t* exact_scores) const;
};

class ScanWorker {
 public:
  explicit ScanWorker(const ScanPlan& plan);

  // Parts [begin, end); tiles in the order of TileOrder. When a row's list is full, it is cut to
  // what can still matter: with rank > 0 by a guess of that rank, else by a proven gate.
  void scan(int64_t begin, int64_t end, int64_t rank);

  float gate(int64_t row) const { return groups_[row / kMaxGroup].gate[row % kMaxGroup]; }
  // Drops what is below.
  void raise_gate(int64_t row, float gate);
  Candidates& found(int64_t row) { return found_[static_cast<size_t>(row)]; }

  int64_t pushed() const { return pushed_; }
  int64_t exact_scores() const { return exact_scores_; }

 private:
  // The first pass's view of one tile and one group.
  struct Found {
    const Slot* slots;
    bool exactly;  // bounds say nothing: score these items exactly
  };
  void score_tile(int64_t tile, int64_t next);
  void score_int8(const uint8_t* bytes, const TileBounds& bounds, const Slot* slots,
                  const uint8_t* next);
  void score_floats(const Slot* slots);
  void take(int64_t row, int q, const Found& tile);
  // An item that reaches the gate. Its mask bit and place among the adjusted have been asked for
  // and are not here yet.
  struct Waiting {
    int64_t row;
    float approx, upper;
    uint32_t item;
  };
  void let_wait(const Waiting& hit);
  void take_oldest();
  void offer_exactly(int64_t row, uint32_t item);
  void offer(int64_t row, float approx, float upper, uint32_t item, float exact);
  void cut(int64_t row);
  void settle_ties(int64_t row);
  void scan_picked(int64_t begin, int64_t end);
  void score_picked(int64_t tile, std::span<const Picked> picked);
  // Lanes of a tile whose items pass the one mask of all rows and are live.
  uint64_t passing(int64_t tile) const;
  void scan_packed(int64_t begin, int64_t end);
  void pack(int64_t tile, uint64_t lanes, int64_t next, uint64_t next_lanes);
  void flush_packed();
  Slot slot_of(int64_t tile, int i) const;

  const ScanPlan& plan_;
  const TileOrder order_;
  std::vector<QueryGroup> groups_;
  std::vector<Candidates> found_;
  struct alignas(64) CacheLine {
    std::byte bytes[64];
  };
  std::vector<CacheLine> floats_;  // a tile in single precision
  std::vector<CacheLine> packed_;  // an int8 tile of items that pass the mask
  std::vector<int8_t> codes_;      // [rows, steps, 4], the queries of picked items
  Slot packed_slots_[kTileItems];
  TileBounds packed_bounds_;
  int num_packed_ = 0;
  // A queue of the last hits of rows with masks or adjusted items: a bit of one of many masks is
  // far away, and comes while others are taken.
  static constexpr size_t kWaiting = 32;
  Waiting waiting_[kWaiting];
  size_t oldest_ = 0, num_waiting_ = 0;
  int64_t rank_ = 0;
  int64_t pushed_ = 0;
  int64_t exact_scores_ = 0;
  TileHits hits_;
  alignas(64) float scores_[kMaxGroup * kTileItems];
};

}  // namespace hypertower::cpu
