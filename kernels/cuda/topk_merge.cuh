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

// Calls use(key, canonical key) for keys[0, count) that `wanted`; eight lanes for each. All threads
// of the block call.
template <class Wanted, class Use>
__device__ inline void score_keys(const TopKInput& in, int64_t row, const uint64_t* keys,
                                  int64_t count, const Wanted& wanted, const Use& use) {
  const float* query = in.queries.data + row * in.queries.ld;
  const int leader = static_cast<int>(lane_index()) / 8 * 8;
  const bool leads = static_cast<int>(lane_index()) == leader;
  for (int64_t begin = 0; begin < count; begin += kSelectThreads / 8) {
    const int64_t i = begin + threadIdx.x / 8;
    uint64_t key = leads && i < count ? keys[i] : topk_key::kNone;
    key = __shfl_sync(kFullMask, key, leader);
    const bool scored = key != topk_key::kNone && wanted(key);
    if (!__any_sync(kFullMask, scored)) continue;
    const int64_t item = scored ? topk_key::id(key) : 0;
    const float score =
        canonical_score_by_8(query, in.items.data + item * in.items.ld, in.items.cols);
    if (scored && leads) use(i, topk_key::make(score, item));
  }
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
// likely reach it, and drops the candidates below. `forced`, unless NaN, is taken instead.
__global__ void __launch_bounds__(kSelectThreads)
    topk_refine_kernel(TopKInput in, Rows rows, RowList list, int64_t rank, float forced) {
  if (blockIdx.x >= *list.size) return;
  const int64_t row = list.rows[blockIdx.x];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  const int64_t count = rows.hits[row];
  float guess = forced;
  if (isnan(forced)) {
    // With more hits than fit there is a repair to come anyway.
    if (count > rows.capacity || count < rank) return;
    const uint64_t cut = select_threshold({keys, count, nullptr, count}, rank);
    uint64_t least = ~uint64_t{0};
    score_keys(
        in, row, keys, count, [cut](uint64_t key) { return key >= cut; },
        [&](int64_t, uint64_t key) { least = min(least, key); });
    guess = topk_key::score(block_least(least));
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
  SHARED(unsigned, written, );
  if (blockIdx.x >= *list.size) return;
  const int64_t row = list.rows[blockIdx.x];
  uint64_t* const keys = rows.candidates + row * rows.stride;
  uint64_t* const first = scored.keys + row * scored.stride;
  uint64_t* const to = best.keys + row * best.stride;
  const int64_t hits = rows.hits[row];
  const int64_t stored = min(hits, rows.capacity);

  uint64_t cut = 0;
  if (stored > keep) cut = select_threshold({keys, stored, nullptr, stored}, keep);
  if (threadIdx.x == 0) written = 0;
  __syncthreads();
  uint64_t least = ~uint64_t{0};
  score_keys(
      in, row, keys, stored, [cut](uint64_t key) { return key >= cut; },
      [&](int64_t, uint64_t key) {
        least = min(least, key);
        first[atomicAdd(&written, 1U)] = key;
      });
  least = block_least(least);
  const int64_t taken = min(stored, keep);
  int64_t rest = 0;
  if (stored > keep) {
    const uint64_t reached = least >> 32;
    rest = compact(keys, 0, 0, stored,
                   [=](uint64_t key) { return key < cut && key >> 32 >= reached; });
    score_keys(
        in, row, keys, rest, [](uint64_t) { return true; },
        [&](int64_t i, uint64_t key) { keys[i] = key; });
    __syncthreads();
  }
  const uint64_t gate = copy_best({first, taken, keys, taken + rest}, keep, to);
  const int64_t count = min(taken + rest, keep);
  least = ~uint64_t{0};
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
