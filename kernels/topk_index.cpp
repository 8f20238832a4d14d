#include "kernels/topk_index.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kernels/cpu/topk.h"
#include "kernels/cpu/topk_quantized.h"
#include "kernels/error.h"
#include "kernels/finite_rows.h"
#include "kernels/parallel.h"
#include "kernels/topk_check.h"

namespace hypertower {
namespace {

constexpr int64_t kSampleItems = 4096;  // of the test whether int8 bounds help
constexpr int64_t kSampleQueries = 8;
constexpr int64_t kSampleK = 64;
constexpr int64_t kMinItemsToTest = 1024;

std::string text(int64_t n) {
  return std::to_string(n);
}

// First-pass survivors over wanted items, for a few items taken as queries of a sample.
double inflation(MatrixView<const float> rows) {
  const int64_t stride = std::max<int64_t>(1, rows.rows / kSampleItems);
  const MatrixView<const float> sample(rows.data, std::min(kSampleItems, rows.rows / stride),
                                       rows.cols, rows.ld * stride);
  const cpu::QuantizedItems quantized(sample, 1);
  const cpu::Shard shard{0, sample, quantized.tiles(), nullptr};
  std::vector<float> queries;
  for (int64_t q = 0; q < kSampleQueries; ++q) {
    const float* row = sample.row(q * (sample.rows / kSampleQueries));
    queries.insert(queries.end(), row, row + rows.cols);
  }
  std::vector<int64_t> ids(static_cast<size_t>(kSampleQueries * kSampleK));
  std::vector<float> scores(ids.size());
  std::vector<int32_t> count(static_cast<size_t>(kSampleQueries));
  std::vector<RowStatus> status(count.size());
  TopKInput in;
  in.queries = {queries.data(), kSampleQueries, rows.cols};
  in.items = {nullptr, sample.rows, rows.cols};
  in.k = kSampleK;
  cpu::SearchStats stats;
  cpu::search({&shard, 1}, in,
              {{ids.data(), kSampleQueries, kSampleK},
               {scores.data(), kSampleQueries, kSampleK},
               count.data(),
               status.data()},
              1, {}, &stats);
  return static_cast<double>(stats.exact_scores) / static_cast<double>(kSampleQueries * kSampleK);
}

bool int8_helps(MatrixView<const float> rows) {
  return rows.rows < kMinItemsToTest || inflation(rows) <= TopKIndex::kMaxInflation;
}

void check_rows(MatrixView<const float> rows, int64_t first_id, int threads) {
  topk_check::num_items(first_id + rows.rows);
  topk_check::finite_items(first_non_finite_row(rows, threads));
}

}  // namespace

// Consecutive items that were prepared together.
struct TopKIndex::Part {
  MatrixView<const float> rows;
  cpu::Tiles tiles;
  cpu::QuantizedItems quantized;  // what `tiles` views, unless the owner has that
  std::shared_ptr<const void> owner;
  bool appended = false;
};

TopKIndex TopKIndex::build(MatrixView<const float> rows, std::shared_ptr<const void> owner,
                           int threads, FirstPass first_pass) {
  check_rows(rows, 0, threads);
  auto part = std::make_shared<Part>();
  part->rows = rows;
  part->owner = std::move(owner);
  if (first_pass == FirstPass::kInt8 || (first_pass == FirstPass::kAuto && int8_helps(rows))) {
    part->quantized = cpu::QuantizedItems(rows, threads);
    part->tiles = part->quantized.tiles();
  }
  TopKIndex index;
  index.dim_ = rows.cols;
  index.add_part(std::move(part));
  return index;
}

TopKIndex TopKIndex::from_tiles(MatrixView<const float> rows, cpu::Tiles tiles,
                                std::shared_ptr<const void> owner) {
  auto part = std::make_shared<Part>();
  part->rows = rows;
  part->tiles = tiles;
  part->owner = std::move(owner);
  TopKIndex index;
  index.dim_ = rows.cols;
  index.add_part(std::move(part));
  return index;
}

void TopKIndex::add_part(std::shared_ptr<const Part> part) {
  if (part->rows.rows > 0) parts_.push_back(std::move(part));
}

TopKIndex TopKIndex::appended(MatrixView<const float> rows, std::shared_ptr<const void> owner,
                              int threads) const {
  if (rows.cols != dim_) {
    throw Error(ErrorKind::kArgument,
                "index: expected items of " + text(dim_) + " columns, as those before, got " +
                    text(rows.cols) + ".",
                "items");
  }
  check_rows(rows, size(), threads);
  TopKIndex index = *this;
  int64_t joined = rows.rows;
  size_t first = parts_.size();
  while (first > 0 && parts_[first - 1]->appended && parts_[first - 1]->rows.rows <= joined) {
    joined += parts_[--first]->rows.rows;
  }
  auto part = std::make_shared<Part>();
  part->appended = true;
  part->rows = rows;
  part->owner = std::move(owner);
  if (first < parts_.size()) {
    auto all = std::make_shared<std::vector<float>>();
    all->reserve(static_cast<size_t>(joined * dim_));
    const auto copy = [&](MatrixView<const float> from) {
      for (int64_t r = 0; r < from.rows; ++r) {
        all->insert(all->end(), from.row(r), from.row(r) + dim_);
      }
    };
    for (size_t p = first; p < parts_.size(); ++p) copy(parts_[p]->rows);
    copy(rows);
    index.parts_.resize(first);
    part->rows = {all->data(), joined, dim_};
    part->owner = std::move(all);
  }
  const bool floats = !parts_.empty() && parts_.front()->tiles.tiles == 0;
  if (!floats) {
    part->quantized = cpu::QuantizedItems(part->rows, threads);
    part->tiles = part->quantized.tiles();
  }
  index.add_part(std::move(part));
  if (live_ != nullptr) {
    auto live = std::make_shared<std::vector<uint64_t>>(*live_);
    live->resize(static_cast<size_t>((index.size() + 63) / 64), 0);
    for (int64_t id = size(); id < index.size(); ++id) {
      (*live)[static_cast<size_t>(id / 64)] |= uint64_t{1} << (id % 64);
    }
    index.live_ = std::move(live);
  }
  return index;
}

TopKIndex TopKIndex::without(std::span<const int64_t> ids) const {
  const int64_t count = size();
  for (const int64_t id : ids) {
    if (id >= 0 && id < count) continue;
    throw Error(
        ErrorKind::kArgument,
        "index: expected item ids in [0, " + text(count) + ") to remove, got " + text(id) + ".",
        "ids");
  }
  auto live = live_ != nullptr ? std::make_shared<std::vector<uint64_t>>(*live_)
                               : std::make_shared<std::vector<uint64_t>>(
                                     static_cast<size_t>((count + 63) / 64), ~uint64_t{0});
  TopKIndex index = *this;
  for (const int64_t id : ids) {
    uint64_t& word = (*live)[static_cast<size_t>(id / 64)];
    const uint64_t bit = uint64_t{1} << (id % 64);
    if ((word & bit) != 0) ++index.num_removed_;
    word &= ~bit;
  }
  index.live_ = std::move(live);
  return index;
}

int64_t TopKIndex::size() const {
  int64_t count = 0;
  for (const auto& part : parts_) count += part->rows.rows;
  return count;
}

bool TopKIndex::is_live(int64_t id) const {
  return live_ == nullptr || ((*live_)[static_cast<size_t>(id / 64)] >> (id % 64) & 1) != 0;
}

const float* TopKIndex::row(int64_t id) const {
  for (const auto& part : parts_) {
    if (id < part->rows.rows) return part->rows.row(id);
    id -= part->rows.rows;
  }
  return nullptr;
}

int64_t TopKIndex::bytes() const {
  int64_t sum = live_ == nullptr ? 0 : static_cast<int64_t>(live_->size() * 8);
  for (const auto& part : parts_) {
    sum += cpu::bytes_of(part->tiles);
    if (part->appended) sum += part->rows.rows * dim_ * 4;
  }
  return sum;
}

cpu::Tiles TopKIndex::tiles() const {
  return parts_.size() == 1 ? parts_.front()->tiles : cpu::Tiles{};
}

void TopKIndex::search(const TopKInput& in, const TopKOutput& out, const Exec& exec) const {
  if (exec.device != DeviceType::kCpu) {
    throw Error(ErrorKind::kArgument,
                "index: expected the CPU, got a CUDA device; pass queries in host memory, or use "
                "topk with items on the device.");
  }
  TopKInput sized = in;
  sized.items = {nullptr, size(), dim_};
  topk_check::shapes(sized, out);
  std::vector<cpu::Shard> shards;
  int64_t first = 0;
  for (const auto& part : parts_) {
    shards.push_back({first, part->rows, part->tiles, live_ == nullptr ? nullptr : live_->data()});
    first += part->rows.rows;
  }
  cpu::search(shards, sized, out, exec.threads);
}

bool tiles_are_sound(const cpu::Tiles& tiles, int64_t count, int64_t dim) {
  if (dim < 1 || dim > cpu::kMaxDim || tiles.steps != cpu::steps_of(dim) ||
      tiles.tiles != cpu::tiles_of(count)) {
    return false;
  }
  for (int64_t j = 0; j < dim; ++j) {
    int exponent;
    if (!std::isfinite(tiles.center[j]) || std::frexp(tiles.weight[j], &exponent) != 0.5F ||
        std::abs(exponent - 1) > 60) {
      return false;
    }
  }
  const cpu::TileOrder order(tiles.tiles);
  std::vector<bool> seen(static_cast<size_t>(count), false);
  int64_t empty = 0;
  for (int64_t t = 0; t < tiles.tiles; ++t) {
    const cpu::TileBounds& b = tiles.bounds[t];
    if (!(b.min_inverse_scale > 0.0F) || !(b.max_inverse_scale >= b.min_inverse_scale) ||
        !std::isfinite(b.max_inverse_scale) || !(b.max_residual >= 0.0F) || !(b.max_norm >= 0.0F) ||
        !std::isfinite(b.max_norm)) {
      return false;
    }
    const int64_t block = order.tile_at(t) / cpu::kBlockTiles;  // whose items it may hold
    for (int64_t i = t * cpu::kTileItems; i < (t + 1) * cpu::kTileItems; ++i) {
      const cpu::Slot& slot = tiles.slots[i];
      if (!std::isfinite(slot.scale) || !(slot.scale > 0.0F)) return false;
      if (slot.item == cpu::kNoItem) {
        ++empty;
        continue;
      }
      if (slot.item >= count || seen[slot.item]) return false;
      if (slot.item / cpu::kBlockItems != block) return false;
      seen[slot.item] = true;
    }
  }
  return empty == tiles.tiles * cpu::kTileItems - count;
}

}  // namespace hypertower
