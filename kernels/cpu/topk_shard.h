// What the CPU top-K searches: consecutive items, with or without their int8 form.
#pragma once

#include <cstdint>

#include "kernels/cpu/topk_int8.h"
#include "kernels/cpu/topk_tiles.h"
#include "kernels/tensor.h"
#include "kernels/topk.h"

namespace hypertower::cpu {

// Views; item i of the shard is item first_id + i of the whole.
struct Shard {
  int64_t first_id = 0;
  MatrixView<const float> rows;
  Tiles tiles;                     // none: scanned in single precision
  const uint64_t* live = nullptr;  // bit first_id + i; null: all items
};

// How the items of a mask are searched.
enum class MaskRoute : uint8_t {
  kByCost,
  kTest,    // scan everything, test what reaches the gate
  kPack,    // put the items that pass together, then scan them
  kPick,    // find the items that pass in their tiles, one by one, for all masks together
  kGather,  // score the items that pass exactly, one by one
};

// How a search is done; results do not depend on any of it. The defaults are meant for everybody,
// tests force what is rare.
struct SearchOptions {
  Int8Tier tier = best_int8_tier();
  MaskRoute masks = MaskRoute::kByCost;
  int64_t guess_rank = 0;        // > 0: this rank of the sample instead of a careful one
  int64_t min_guess_tiles = 16;  // fewer tiles are scanned without a guess
  int64_t min_float_rows = 16;   // fewer rows are scored exactly where there is no int8 form
};

// What a search did, for tests and benchmarks.
struct SearchStats {
  int64_t candidates = 0;    // that passed the first pass
  int64_t exact_scores = 0;  // of candidates
  int64_t repairs = 0;       // rows whose guess was too high
  int64_t scanned_rows = 0, packed_rows = 0, picked_rows = 0, exact_rows = 0;

  void add(const SearchStats& s) {
    candidates += s.candidates;
    exact_scores += s.exact_scores;
    repairs += s.repairs;
    scanned_rows += s.scanned_rows;
    packed_rows += s.packed_rows;
    picked_rows += s.picked_rows;
    exact_rows += s.exact_rows;
  }
};

}  // namespace hypertower::cpu
