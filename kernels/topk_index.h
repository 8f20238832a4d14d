// Items prepared once for exact top-K on the CPU (kernels/topk.h): their int8 form, about a quarter
// of the float vectors, which a search reads instead of them. Answers are those of `topk` over the
// same items, to the bit, whatever has been appended, removed, saved or mapped.
//
// An index is a value that cannot change: `appended` and `without` give a new one that shares what
// is the same, so a reader never waits for a writer and a snapshot stays what it is. Thread-safe.
// Copying costs a few pointers.
//
// Memory per item of D columns: 4 ceil(D / 4) bytes of codes, 8 of its scale and row, a third of a
// byte of bounds; its float vector stays where the caller has it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/topk_shard.h"
#include "kernels/tensor.h"
#include "kernels/topk.h"

namespace hypertower {

class TopKIndex {
 public:
  // How the first pass reads items. Int8 bounds can be too loose to help: when they let through
  // more than kMaxInflation times the items they must on a sample of the items, kAuto takes floats.
  enum class FirstPass : uint8_t { kAuto, kInt8, kFloat };
  static constexpr double kMaxInflation = 8.0;

  TopKIndex() = default;

  // Quantises rows [N, D], in parallel, with no memory but the result and a block per thread.
  // `owner` keeps the rows alive and unchanged as long as an index refers to them; null: the caller
  // does. Errors (kArgument): non-finite rows (names the first), more than 2^32 items.
  static TopKIndex build(MatrixView<const float> rows, std::shared_ptr<const void> owner,
                         int threads, FirstPass first_pass = FirstPass::kAuto);
  // Of tiles that have been made before, from the same rows; both belong to `owner`. The caller has
  // checked them (`tiles_are_sound`).
  static TopKIndex from_tiles(MatrixView<const float> rows, cpu::Tiles tiles,
                              std::shared_ptr<const void> owner);

  // Items added at the end: they get the ids size(), size() + 1, ... Small additions are joined
  // with earlier small ones, so that there are O(log) parts: amortised O(log N) copies per item.
  TopKIndex appended(MatrixView<const float> rows, std::shared_ptr<const void> owner,
                     int threads) const;
  // Without these items; ids stay. An id may come twice or be gone already. Errors (kArgument): an
  // id outside [0, size()).
  TopKIndex without(std::span<const int64_t> ids) const;

  int64_t size() const;  // removed ones included
  int64_t num_live() const { return size() - num_removed_; }
  int64_t dim() const { return dim_; }
  bool is_live(int64_t id) const;
  const float* row(int64_t id) const;
  // What the index itself holds, in bytes; float vectors are not its own.
  int64_t bytes() const;

  // `in.items` is left empty: the index has them. Errors as `topk`, and a device that is not the
  // CPU.
  void search(const TopKInput& in, const TopKOutput& out, const Exec& exec) const;

  // The one part of an index that was never appended to, for saving it: no tiles when the first
  // pass reads floats.
  cpu::Tiles tiles() const;

 private:
  struct Part;

  void add_part(std::shared_ptr<const Part> part);

  int64_t dim_ = 0;
  int64_t num_removed_ = 0;
  std::vector<std::shared_ptr<const Part>> parts_;
  std::shared_ptr<const std::vector<uint64_t>> live_;  // null: nothing has been removed
};

// Whether tiles from a file can be searched without reading out of bounds and could come from
// `count` rows of `dim` columns: each row in one place, numbers finite where they must be. It does
// not compare codes with rows.
bool tiles_are_sound(const cpu::Tiles& tiles, int64_t count, int64_t dim);

}  // namespace hypertower
