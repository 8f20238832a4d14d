// Small correct kernels, each with faults that can be switched on. The tests prove that the
// emulator sees them: its silence about other kernels is worth that much.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace hypertower {

enum class Bug {
  kNone,
  kReadPastEnd,         // a loop bound off by one, global memory
  kSharedPastEnd,       // the same in shared memory
  kMissingBarrier,      // read before all have written
  kMissingLoopBarrier,  // write before all have read
  kMissingSyncwarp,
  kBarrierInBranch,
  kEarlyReturn,
  kForeignLane,    // a shuffle in a divergent branch, with a mask that lacks the caller
  kPartialWarp,    // a full-mask shuffle that half of the warp skips
  kUninitialised,  // a shared counter never set to zero
  kOneGroupShort,  // cp.async waits for one group too few
  kNoWait,         // cp.async never waited for
  kStageReused,    // bulk copy into a stage that others still read
  kWrongParity,    // mbarrier waited for with the other phase
  kMissingAtomic,
  kRelaxedPublish,
  kShuffleAsBarrier,  // a shuffle instead of __syncwarp
  kMisaligned,        // a float4 load one float off
  kSharedByWarps,     // one buffer for all warps
  kTieOverflow,       // more ties than the buffer holds
  kRaceOfBlocks,      // same-numbered threads of several blocks
  kOffsetOverflow,    // a 32-bit row * stride
};

constexpr int kBlock = 64;
constexpr int kPerThread = 4;

// out[block] = sum of the block's reversed tile; the tile goes through shared memory.
template <Bug kBug>
__global__ void tile_kernel(const float* in, int n, float* out) {
  SHARED(float, tile, [kBlock]);
  const int t = static_cast<int>(threadIdx.x);
  if (kBug == Bug::kEarlyReturn && t == n) return;
  const int last = kBug == Bug::kReadPastEnd ? n + 1 : n;
  float kept = 0;
  for (int round = 0; round < 3; ++round) {
    const int i = t + (kBug == Bug::kSharedPastEnd && round == 2 ? 1 : 0);
    static_cast<float*>(tile)[i] = t < last ? in[t] + static_cast<float>(round) : 0.0F;
    if (kBug == Bug::kBarrierInBranch && t >= 32) {
      __syncthreads();
    } else if (kBug != Bug::kMissingBarrier) {
      __syncthreads();
    }
    kept += tile[kBlock - 1 - t];
    if (kBug != Bug::kMissingLoopBarrier) __syncthreads();
  }
  out[t] = kept;
}

// Each warp rotates its values by 5 lanes through its own part of shared memory.
template <Bug kBug>
__global__ void rotate_kernel(const float* in, float* out) {
  SHARED(float, tile, [kBlock]);
  const int t = static_cast<int>(threadIdx.x);
  const int lane = t % 32;
  const int base = kBug == Bug::kSharedByWarps ? 0 : t - lane;
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    tile[base + lane] = in[t] + static_cast<float>(round);
    if (kBug == Bug::kShuffleAsBarrier) {
      __shfl_sync(kFullMask, lane, 0);
    } else if (kBug != Bug::kMissingSyncwarp) {
      __syncwarp();
    }
    sum += tile[base + (lane + 5) % 32];
    __syncwarp();
  }
  if (kBug == Bug::kForeignLane && lane < 8) sum += __shfl_sync(0xffffff00U, 0.0F, 8);
  if (kBug == Bug::kPartialWarp && lane < 16) sum += __shfl_sync(kFullMask, 0.0F, 0);
  __syncwarp();
  out[t] = sum;
}

// Collects the values >= limit into a buffer of kBlock / 2 and counts them: out[0] = count.
template <Bug kBug>
__global__ void collect_kernel(const float* in, float limit, float* out) {
  SHARED(int, count, );
  SHARED(float, kept, [kBlock / 2]);
  const int t = static_cast<int>(threadIdx.x);
  if (kBug != Bug::kUninitialised && t == 0) count = 0;
  __syncthreads();
  if (in[t] >= limit) {
    int at = 0;
    if (kBug == Bug::kMissingAtomic) {
      at = count;
      count = at + 1;
    } else {
      at = atomicAdd(&count, 1);
    }
    if (kBug == Bug::kTieOverflow || (at >= 0 && at < kBlock / 2)) kept[at] = in[t];
  }
  __syncthreads();
  float least = limit;
  for (int i = t; i < count && i < kBlock / 2; i += kBlock)
    least = kept[i] < least ? kept[i] : least;
  out[t] = least == limit ? static_cast<float>(count) : -1.0F;
}

// Sums tiles of kBlock * 4 floats through a ring of two stages.
template <Bug kBug>
__global__ void pipeline_kernel(const float* in, int tiles, float* out) {
  constexpr int kTile = kBlock * kPerThread;
  SHARED(float, stage, [2][kTile]);
  const int t = static_cast<int>(threadIdx.x);
  auto fetch = [&](int i) {
    if (i < tiles) ptx::cp_async16(&stage[i % 2][kPerThread * t], in + i * kTile + kPerThread * t);
    ptx::cp_async_commit();
  };
  fetch(0);
  float sum = 0;
  for (int i = 0; i < tiles; ++i) {
    fetch(i + 1);
    if (kBug == Bug::kOneGroupShort) {
      ptx::cp_async_wait<2>();
    } else if (kBug != Bug::kNoWait) {
      ptx::cp_async_wait<1>();
    }
    __syncthreads();
    for (int j = t; j < kTile; j += kBlock) sum += stage[i % 2][kTile - 1 - j];
    __syncthreads();
  }
  if (kBug != Bug::kNoWait) ptx::cp_async_wait<0>();
  out[t] = sum;
}

// The same by bulk copies of one thread.
template <Bug kBug>
__global__ void bulk_kernel(const float* in, int tiles, float* out) {
  constexpr int kTile = kBlock * kPerThread;
  SHARED(float, stage, [2][kTile]);
  SHARED(uint64_t, full, [2]);
  const int t = static_cast<int>(threadIdx.x);
  if (t == 0) {
    ptx::mbarrier_init(&full[0], 1);
    ptx::mbarrier_init(&full[1], 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  auto fetch = [&](int i) {
    if (t != 0 || i >= tiles) return;
    ptx::mbarrier_arrive_expect(&full[i % 2], sizeof stage[0]);
    ptx::bulk_copy(stage[i % 2], in + i * kTile, sizeof stage[0], &full[i % 2]);
  };
  fetch(0);
  float sum = 0;
  for (int i = 0; i < tiles; ++i) {
    fetch(i + 1);
    const auto parity = static_cast<unsigned>(i / 2 % 2);
    ptx::mbarrier_wait(&full[i % 2], kBug == Bug::kWrongParity ? parity ^ 1U : parity);
    for (int j = t; j < kTile; j += kBlock) sum += stage[i % 2][kTile - 1 - j];
    if (kBug != Bug::kStageReused) __syncthreads();
  }
  out[t] = sum;
}

// Blocks write partial sums; the one that counts last adds them up and publishes the total.
template <Bug kBug>
__global__ void grid_sum_kernel(const float* in, float* partial, unsigned* count, float* out) {
  SHARED(float, scratch, [33]);
  SHARED(int, is_last, );
  const int t = static_cast<int>(threadIdx.x);
  const float sum = block_reduce_sum<kBlock>(in[t], scratch);
  if (kBug == Bug::kRaceOfBlocks && t == 7) partial[gridDim.x] += sum;
  if (t == 0) {
    partial[blockIdx.x] = sum;
    const unsigned before =
        kBug == Bug::kRelaxedPublish ? atomicAdd(count, 1U) : fetch_add_acq_rel(count, 1);
    is_last = before == gridDim.x - 1 ? 1 : 0;
  }
  __syncthreads();
  if (is_last == 0) return;
  float total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += partial[i];
  out[t] = total;
}

// Adds the four values of row t % 8. The row number comes back from its offset in a wide matrix.
template <Bug kBug>
__global__ void rows_kernel(const float* in, int stride, float* out) {
  const int t = static_cast<int>(threadIdx.x);
  const int64_t offset = kBug == Bug::kOffsetOverflow ? t * stride : int64_t{t} * stride;
  const auto row = static_cast<int>(offset / stride) & 7;
  const float* from = in + kPerThread * row + (kBug == Bug::kMisaligned ? 1 : 0);
  const float4 v = *reinterpret_cast<const float4*>(from);
  out[t] = v.x + v.y + v.z + v.w;
}

}  // namespace hypertower
