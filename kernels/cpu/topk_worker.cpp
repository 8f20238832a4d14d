#include "kernels/cpu/topk_worker.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cpu/topk_float.h"
#include "kernels/cpu/topk_mask.h"
#include "kernels/cpu/topk_pack.h"

namespace hypertower::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Error bounds cover the first pass; the factor here covers the conversions and sums after it.
float upper_bound(float product, float slack) {
  return product + slack + (std::fabs(product) + slack) * 0x1p-20F;
}

// How many lines per step each group's call asks for, so that all calls of a tile together ask for
// the next tile once.
struct Fetching {
  int64_t first_line;
  int lines;
};
Fetching fetching(int64_t group, int64_t groups, int64_t steps) {
  if (groups == 1) return {0, 3};
  if (groups == 2) return group == 0 ? Fetching{0, 2} : Fetching{2 * steps, 1};
  return {group * steps, group < 3 ? 1 : 0};
}

}  // namespace

int64_t ScanPlan::score_exactly(int64_t row, std::vector<Candidate>& list, size_t count) const {
  uint32_t items[64];
  size_t places[64];
  float scores[64];
  int64_t scored = 0;
  int batch = 0;
  const auto flush = [&] {
    canonical_scores(wide_queries + row * canonical_stride(dim()), 1, shard.rows, items, 0, batch,
                     scores);
    for (int i = 0; i < batch; ++i) list[places[i]].exact = scores[i];
    scored += batch;
    batch = 0;
  };
  for (size_t i = 0; i < count; ++i) {
    if (!std::isnan(list[i].exact)) continue;
    items[batch] = list[i].item;
    places[batch++] = i;
    if (batch == 64) flush();
  }
  if (batch > 0) flush();
  return scored;
}

float ScanPlan::proven_score(int64_t row, Candidates& found, int64_t* exact_scores) const {
  const auto count = static_cast<size_t>(keep);
  if (found.list().size() < count) return -kInf;
  found.nth_approx(count);
  *exact_scores += score_exactly(row, found.list(), count);
  float least = kInf;
  for (size_t i = 0; i < count; ++i) least = std::min(least, found.list()[i].exact);
  return least;
}

ScanWorker::ScanWorker(const ScanPlan& plan)
    : plan_(plan), order_(plan.tiles()), groups_(plan.groups.groups()), found_(plan.rows.size()) {
  if (!plan.int8) floats_.resize(static_cast<size_t>(plan.dim() * kTileItems * 4 / 64));
  if (plan.way == ScanWay::kPacked && plan.int8) {
    packed_.resize(static_cast<size_t>(plan.shard.tiles.tile_bytes() / 64));
  }
}

void ScanWorker::raise_gate(int64_t row, float gate) {
  float& current = groups_[row / kMaxGroup].gate[row % kMaxGroup];
  if (!(gate > current)) return;
  current = gate;
  found(row).drop_below(gate);
}

void ScanWorker::scan(int64_t begin, int64_t end, int64_t rank) {
  rank_ = rank;
  for (int64_t row = 0; row < static_cast<int64_t>(plan_.rows.size()); ++row) {
    found(row).make_room(static_cast<size_t>(rank > 0 ? rank + 64 : 2 * plan_.keep + 256));
  }
  if (plan_.way == ScanWay::kPicked) return scan_picked(begin, end);
  if (plan_.way == ScanWay::kPacked) {
    scan_packed(begin, end);
  } else {
    for (int64_t tile = begin; tile < end; ++tile) score_tile(tile, std::min(tile + 1, end - 1));
  }
  while (num_waiting_ > 0) take_oldest();
}

Slot ScanWorker::slot_of(int64_t tile, int i) const {
  if (plan_.int8) return plan_.shard.tiles.slots[tile * kTileItems + i];
  const int64_t item = order_.tile_at(tile) * kTileItems + i;
  return {1.0F, item < plan_.shard.rows.rows ? static_cast<uint32_t>(item) : kNoItem};
}

void ScanWorker::score_tile(int64_t tile, int64_t next) {
  if (plan_.int8) {
    const Tiles& tiles = plan_.shard.tiles;
    score_int8(tiles.tile(tile), tiles.bounds[tile], tiles.slots + tile * kTileItems,
               tiles.tile(next));
  } else {
    Slot slots[kTileItems];
    for (int i = 0; i < kTileItems; ++i) slots[i] = slot_of(tile, i);
    score_floats(slots);
  }
}

void ScanWorker::score_int8(const uint8_t* bytes, const TileBounds& bounds, const Slot* slots,
                            const uint8_t* next) {
  const int64_t steps = plan_.shard.tiles.steps;
  const auto count = static_cast<int64_t>(groups_.size());
  for (int64_t g = 0; g < count; ++g) {
    const Fetching fetch = fetching(g, count, steps);
    const QueryGroup& group = groups_[static_cast<size_t>(g)];
    uint32_t queries = int8_pass(plan_.options.tier, group.width)(
        bytes, bounds, group, steps, reinterpret_cast<const char*>(next) + fetch.first_line * 64,
        fetch.lines, &hits_);
    for (; queries != 0; queries &= queries - 1) {
      const int q = std::countr_zero(queries);
      const int64_t row = g * kMaxGroup + q;
      if (row >= static_cast<int64_t>(plan_.rows.size())) break;  // padding, next to wide items
      take(row, q, {slots, std::isinf(bounds.max_residual)});
    }
  }
}

void ScanWorker::score_floats(const Slot* slots) {
  auto* tile = reinterpret_cast<float*>(floats_.data());
  const float norm = pack_floats(plan_.shard.rows, slots, tile);
  for (int64_t g = 0; g < static_cast<int64_t>(groups_.size()); ++g) {
    const QueryGroup& group = groups_[static_cast<size_t>(g)];
    float thresholds[kMaxGroup];
    for (int q = 0; q < kMaxGroup; ++q) {
      hits_.slack[q] = group.norm[q] * norm * float_error(plan_.dim()) + 0x1p-120F;
      const float least = group.gate[q] - hits_.slack[q];
      thresholds[q] = std::isnan(least) ? -kInf : least - std::fabs(least) * 0x1p-22F;
    }
    uint32_t queries =
        float_pass(tile, plan_.groups.floats(g), plan_.dim(), thresholds, scores_, hits_.lanes);
    for (; queries != 0; queries &= queries - 1) {
      const int q = std::countr_zero(queries);
      const int64_t row = g * kMaxGroup + q;
      if (row >= static_cast<int64_t>(plan_.rows.size())) break;
      take(row, q, {slots, std::isinf(norm)});
    }
  }
}

// The lanes of one row.
void ScanWorker::take(int64_t row, int q, const Found& tile) {
  const float slack = hits_.slack[q];
  const ScanRow& r = plan_.rows[static_cast<size_t>(row)];
  const bool waits = r.mask != nullptr || !r.adjusted.items().empty();
  for (uint64_t lanes = hits_.lanes[q]; lanes != 0; lanes &= lanes - 1) {
    const int place = std::countr_zero(lanes);
    const Slot& slot = tile.slots[place];
    if (slot.item == kNoItem) continue;
    if (tile.exactly) {
      if (!allowed(r.mask, plan_.shard.first_id + slot.item)) continue;
      offer_exactly(row, slot.item);
      continue;
    }
    float product = scores_[q * kTileItems + place];
    if (plan_.int8) {
      product = static_cast<float>(hits_.product[q * kTileItems + place] + hits_.threshold[q]);
    }
    const float upper = upper_bound(product, slack) * slot.scale;
    const float approx = product * slot.scale;
    if (!waits) {
      offer(row, approx, upper, slot.item, std::numeric_limits<float>::quiet_NaN());
    } else if (upper >= gate(row)) {
      let_wait({row, approx, upper, slot.item});
    }
  }
}

void ScanWorker::let_wait(const Waiting& hit) {
  const int64_t id = plan_.shard.first_id + hit.item;
  const ScanRow& row = plan_.rows[static_cast<size_t>(hit.row)];
  if (row.mask != nullptr) __builtin_prefetch(row.mask + id / 64);
  row.adjusted.fetch(id);
  if (num_waiting_ == kWaiting) take_oldest();
  waiting_[(oldest_ + num_waiting_++) % kWaiting] = hit;
}

void ScanWorker::take_oldest() {
  const Waiting& hit = waiting_[oldest_];
  oldest_ = (oldest_ + 1) % kWaiting;
  --num_waiting_;
  if (!allowed(plan_.rows[static_cast<size_t>(hit.row)].mask, plan_.shard.first_id + hit.item)) {
    return;
  }
  offer(hit.row, hit.approx, hit.upper, hit.item, std::numeric_limits<float>::quiet_NaN());
}

void ScanWorker::offer_exactly(int64_t row, uint32_t item) {
  float exact;
  canonical_scores(plan_.wide_queries + row * canonical_stride(plan_.dim()), 1, plan_.shard.rows,
                   &item, 0, 1, &exact);
  const float upper = plan_.groups.units(row).upper(exact);
  offer(row, upper, upper, item, exact);
}

void ScanWorker::offer(int64_t row, float approx, float upper, uint32_t item, float exact) {
  if (!(upper >= gate(row))) return;
  const ScanRow& r = plan_.rows[static_cast<size_t>(row)];
  const int64_t id = plan_.shard.first_id + item;
  if (!allowed(plan_.shard.live, id)) return;
  if (r.adjusted.contains(id)) return;
  ++pushed_;
  found(row).push(upper, approx, item, exact);
  if (found(row).full()) cut(row);
}

void ScanWorker::cut(int64_t row) {
  Candidates& list = found(row);
  if (rank_ > 0) {
    raise_gate(row, list.nth_approx(static_cast<size_t>(rank_)));
  } else {
    raise_gate(row, plan_.groups.units(row).gate(plan_.proven_score(row, list, &exact_scores_)));
  }
  const auto wanted = static_cast<size_t>(std::max({plan_.keep, rank_, int64_t{128}}));
  if (list.size() > 4 * wanted) settle_ties(row);
  list.make_room(wanted);
}

// More items than bounds can tell apart, such as equal ones: exact scores and ids can.
void ScanWorker::settle_ties(int64_t row) {
  Candidates& list = found(row);
  exact_scores_ += plan_.score_exactly(row, list.list(), list.size());
  list.keep_best(static_cast<size_t>(plan_.keep));
  raise_gate(row, plan_.groups.units(row).gate(plan_.proven_score(row, list, &exact_scores_)));
}

void ScanWorker::scan_picked(int64_t begin, int64_t end) {
  const int64_t rows = plan_.groups.rows(), steps = plan_.shard.tiles.steps;
  codes_.resize(static_cast<size_t>(rows * steps * 4));
  for (int64_t r = 0; r < rows; ++r) {
    const QueryGroup& group = groups_[static_cast<size_t>(r / kMaxGroup)];
    const int8_t* from = group.bytes + r % kMaxGroup * 4;
    for (int64_t k = 0; k < steps; ++k) {
      std::memcpy(codes_.data() + (r * steps + k) * 4, from + k * group.width * 4, 4);
    }
  }
  std::vector<Picked> picked;
  std::vector<int64_t> of_tile;
  for (int64_t part = begin; part < end; ++part) {
    plan_.picked->part(part, &picked, &of_tile);
    for (size_t t = 0; t + 1 < of_tile.size(); ++t) {
      score_picked(part * PickedItems::kPartTiles + static_cast<int64_t>(t),
                   {picked.data() + of_tile[t], picked.data() + of_tile[t + 1]});
    }
  }
}

void ScanWorker::score_picked(int64_t tile, std::span<const Picked> picked) {
  const Tiles& tiles = plan_.shard.tiles;
  // The next tile, asked for in as many portions as there are items: memory takes no more at once.
  const uint8_t* next = tiles.tile(std::min(tile + 1, tiles.tiles - 1));
  const int64_t lines = tiles.tile_bytes() / 64;
  const int64_t portion = lines / std::max<int64_t>(1, static_cast<int64_t>(picked.size())) + 1;
  for (const Picked& p : picked) {
    for (int64_t i = 0; i < portion; ++i) __builtin_prefetch(next + i * 64);
    next += portion * 64;
    const QueryGroup& group = groups_[p.row / kMaxGroup];
    const int q = static_cast<int>(p.row % kMaxGroup);
    const TileBounds& bounds = tiles.bounds[tile];
    const Slot& slot = tiles.slots[p.slot];
    if (std::isinf(bounds.max_residual)) {
      offer_exactly(p.row, slot.item);
      continue;
    }
    const float slack = group.norm[q] * bounds.max_residual + group.residual[q] * bounds.max_norm;
    const auto product = static_cast<float>(
        int8_product(plan_.options.tier, tiles.tile(tile) + p.slot % kTileItems * 4,
                     codes_.data() + p.row * tiles.steps * 4, tiles.steps) -
        group.offset[q]);
    offer(p.row, product * slot.scale, upper_bound(product, slack) * slot.scale, slot.item,
          std::numeric_limits<float>::quiet_NaN());
  }
}

// Without a branch on what may be the toss of a coin.
uint64_t ScanWorker::passing(int64_t tile) const {
  const uint64_t* mask = plan_.rows.front().mask;
  const uint64_t* live = plan_.shard.live == nullptr ? mask : plan_.shard.live;
  const int64_t first_id = plan_.shard.first_id;
  const auto passes = [&](uint32_t item) {
    if (item == kNoItem) return uint64_t{0};
    const int64_t id = first_id + item;
    return (mask[id / 64] & live[id / 64]) >> (id % 64) & 1;
  };
  uint64_t lanes = 0;
  if (plan_.int8) {
    const Slot* slots = plan_.shard.tiles.slots + tile * kTileItems;
    for (int i = 0; i < kTileItems; ++i) lanes |= passes(slots[i].item) << i;
  } else {
    for (int i = 0; i < kTileItems; ++i) lanes |= passes(slot_of(tile, i).item) << i;
  }
  return lanes;
}

// All rows have one mask: what passes it is put together to full tiles.
void ScanWorker::scan_packed(int64_t begin, int64_t end) {
  if (begin == end) return;
  uint64_t lanes = passing(begin);
  for (int64_t tile = begin; tile < end; ++tile) {
    const int64_t next = std::min(tile + 1, end - 1);
    const uint64_t next_lanes = passing(next);
    pack(tile, lanes, next, next_lanes);
    lanes = next_lanes;
  }
  flush_packed();
}

void ScanWorker::pack(int64_t tile, uint64_t lanes, int64_t next, uint64_t next_lanes) {
  const Tiles& tiles = plan_.shard.tiles;
  do {
    const uint64_t some = lowest_bits(lanes, kTileItems - num_packed_);
    lanes &= ~some;
    if (plan_.int8) {
      const TileBounds& b = tiles.bounds[tile];
      TileBounds& all = packed_bounds_;
      if (num_packed_ == 0) all = b;
      all = {std::min(all.min_inverse_scale, b.min_inverse_scale),
             std::max(all.max_inverse_scale, b.max_inverse_scale),
             std::max(all.max_residual, b.max_residual), std::max(all.max_norm, b.max_norm)};
      pack_lanes({tiles.tile(tile), some}, {tiles.tile(next), next_lanes}, tiles.steps,
                 reinterpret_cast<uint8_t*>(packed_.data()), num_packed_);
    }
    for (uint64_t bits = some; bits != 0; bits &= bits - 1) {
      packed_slots_[num_packed_++] = slot_of(tile, std::countr_zero(bits));
    }
    if (num_packed_ == kTileItems) flush_packed();
  } while (lanes != 0);
}

void ScanWorker::flush_packed() {
  if (num_packed_ == 0) return;
  for (int i = num_packed_; i < kTileItems; ++i) packed_slots_[i] = {1.0F, kNoItem};
  num_packed_ = 0;
  if (plan_.int8) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(packed_.data());
    score_int8(bytes, packed_bounds_, packed_slots_, bytes);
  } else {
    score_floats(packed_slots_);
  }
}

}  // namespace hypertower::cpu
