// From candidates to the best k, and the proof that nothing is missing. Part of topk.cu.
//
// An item is passed over only when its upper bound is below its row's threshold, so its score is
// below it too. Hence: when every hit was stored and k stored items score at least the threshold,
// the best k of them are the best k of all, ties included. A row where that does not hold is
// repaired: it is scanned again with a threshold that k known scores reach, or a lower guess, and
// in the end scored as a whole (topk_reference.cuh). The device decides; the host waits for
// nothing.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_canonical.cuh"
#include "kernels/cuda/topk_select.cuh"

namespace hypertower::cuda {

// Puts the canonical score in the place of the bound in keys[0, count), eight lanes for each, and
// returns the least of the calling thread's. All threads of the block call.
__device__ inline uint64_t score_keys(const TopKInput& in, int64_t row, uint64_t* keys,
                                      int64_t count) {
  const float* query = in.queries.data + row * in.queries.ld;
  const bool leads = lane_index() % 8 == 0;
  uint64_t least = ~uint64_t{0};
  for (int64_t begin = 0; begin < count; begin += kSelectThreads / 8) {
    const int64_t i = begin + threadIdx.x / 8;
    const int64_t item = i < count ? topk_key::id(keys[i]) : 0;
    __syncwarp();  // all have read the key
    const float score =
        canonical_score_by_8(query, in.items.data + item * in.items.ld, in.items.cols);
    if (!leads || i >= count) continue;
    keys[i] = topk_key::make(score, item);
    least = min(least, keys[i]);
  }
  return least;
}

// The least of keys, ~0 for none. All threads of the block call and get it.
__device__ inline uint64_t block_least(uint64_t own) {
  SHARED(unsigned long long, least, );
  if (threadIdx.x == 0) least = ~0ULL;
  __syncthreads();
  own = warp_reduce_min(own);
  if (lane_index() == 0) atomicMin(&least, static_cast<unsigned long long>(own));
  __syncthreads();
  return least;
}

// Block per row of the list, after a pass over a sample of the items: raises the threshold to a
// score that `rank` items of the sample reach, where `rank` is so large that k items of all very
// likely reach it, and drops the candidates below. `forced`, unless NaN, is taken instead. `scored`
// is scratch.
__global__ void __launch_bounds__(kSelectThreads)
    topk_refine_kernel(TopKInput in, Rows rows, RowList list, BestKeys scored, const ScanPlan* plan,
                       TileStep after, float forced) {
  if (blockIdx.x >= *list.size) return;
  const TilePlan& tiles = plan->tiles;
  const bool warm = after == TileStep::kWarm;
  if ((warm ? tiles.warm : tiles.seed) == 1) return;  // all items are candidates
  if (warm && tiles.warm == tiles.seed) return;       // there was no such step
  const int64_t rank = warm ? tiles.warm_rank : tiles.seed_rank;
  const int64_t row = list.rows[blockIdx.x];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  const int64_t count = rows.hits[row];
  float guess = forced;
  if (isnan(forced)) {
    // With more hits than fit there is a repair to come anyway.
    if (count > rows.capacity || count < rank) return;
    uint64_t* const best = scored.keys + row * scored.stride;
    copy_best({keys, count, nullptr, count}, rank, best);
    guess = topk_key::score(block_least(score_keys(in, row, best, rank)));
  }
  const float threshold = rows.threshold[row];
  if (!(guess > threshold)) return;
  const int64_t stored = min(count, rows.capacity);
  const int64_t left =
      compact(keys, 0, 0, stored, [guess](uint64_t key) { return topk_key::score(key) >= guess; });
  if (threadIdx.x != 0) return;
  rows.looser[row] = threshold;
  rows.threshold[row] = guess;
  rows.hits[row] = static_cast<unsigned>(left);
}

// Where rows go that the merge could not prove.
struct Repair {
  RowList again;  // unless `last`
  RowList reference;
  bool last;
  PathCounts* paths;
};

// Block per row of the list: scores the best `keep` candidates by bound, then those whose bound
// reaches the least of these scores, and keeps the best of both in `best`; then verifies.
// `scored` is scratch.
__global__ void __launch_bounds__(kSelectThreads)
    topk_merge_kernel(TopKInput in, Rows rows, RowList list, BestKeys scored, BestKeys best,
                      int64_t keep, Repair repair) {
  if (blockIdx.x >= *list.size) return;
  const int64_t row = list.rows[blockIdx.x];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  uint64_t* const first = scored.keys + row * scored.stride;
  uint64_t* const to = best.keys + row * best.stride;
  const int64_t hits = rows.hits[row];
  const int64_t stored = min(hits, rows.capacity);

  const uint64_t cut = copy_best({keys, stored, nullptr, stored}, keep, first);
  const int64_t taken = min(stored, keep);
  const uint64_t reached = block_least(score_keys(in, row, first, taken)) >> 32;
  int64_t rest = 0;
  if (stored > keep) {
    rest = compact(keys, 0, 0, stored,
                   [=](uint64_t key) { return key < cut && key >> 32 >= reached; });
    score_keys(in, row, keys, rest);
    __syncthreads();
  }
  const uint64_t gate = copy_best({first, taken, keys, taken + rest}, keep, to);
  const int64_t count = min(taken + rest, keep);
  uint64_t least = ~uint64_t{0};
  for (int64_t i = threadIdx.x; i < count; i += kSelectThreads) least = min(least, to[i]);
  least = block_least(least);

  if (threadIdx.x != 0) return;
  const float threshold = rows.threshold[row];
  const float kth = count == keep ? topk_key::score(least) : -INFINITY;
  const bool too_many = hits > rows.capacity;
  rows.hits[row] = 0;
  if (!too_many && kth >= threshold) {
    best.count[row] = count;
    rows.gate[row] = gate;
    return;
  }
  atomicAdd(too_many ? &repair.paths->too_many : &repair.paths->too_few, 1U);
  const float next = count == keep ? kth : rows.looser[row];
  // A threshold that k scores reach and that let too many pass helps only when it was lower.
  if (repair.last || (too_many && !(next > threshold))) return repair.reference.add(row);
  rows.threshold[row] = next;
  rows.looser[row] = -INFINITY;
  repair.again.add(row);
}

}  // namespace hypertower::cuda
