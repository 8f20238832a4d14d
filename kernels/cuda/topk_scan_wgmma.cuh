// The same for sm_90a. A producer warp copies stages of tiles in bulk; four groups of four warps
// keep 64 rows each and multiply them with tiles by wgmma, straight from shared memory: a stage is
// already laid out as wgmma reads it. With fewer rows several groups keep the same ones and take
// the tiles in turn. The groups drift apart by themselves, so that one multiplies while others look
// at their products; two of them kept the tensor cores of an H200 a third busy.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_queue.cuh"
#include "kernels/cuda/topk_scan_mma.cuh"

namespace hypertower::cuda {

inline constexpr int kGroupRows = 64;
inline constexpr int kGroupThreads = 128;
inline constexpr int kGroups = 4;
inline constexpr int kWgmmaThreads = kGroups * kGroupThreads + 32;
inline constexpr int kMinBulkStages = 4;
inline constexpr int kMaxBulkStages = 8;  // a group each, and as many on their way

inline size_t wgmma_scan_shared(int row_groups, int stages, int chunks) {
  return static_cast<size_t>(stages) * kStageBytes +
         static_cast<size_t>(row_groups) * kGroupRows * chunks * kCodeChunk;
}

// A place in the ring of stages, and how often the ring has gone round.
struct RingTurn {
  int stages;
  int slot = 0;
  unsigned round = 0;

  __device__ void next() {
    const bool wraps = slot + 1 == stages;
    slot = wraps ? 0 : slot + 1;
    round += wraps ? 1 : 0;
  }
};

#if defined(HYPERTOWER_HAS_WGMMA)
// dots (+)= 64 rows times a tile, over 32 * kSteps columns. The number of steps is known to the
// compiler: in a loop of unknown length ptxas lets each step wait for the one before.
template <int kSteps>
__device__ __forceinline__ void multiply(const ptx::SharedColumns& a, const ptx::SharedColumns& b,
                                         bool add, int (&dots)[64]) {
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const auto columns = [step](const ptx::SharedColumns& m) {
      return ptx::SharedColumns{static_cast<const char*>(m.data) + 2 * step * m.stride, m.stride};
    };
    ptx::wgmma_m64n128k32_s8(dots, columns(a), columns(b), add || step > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait();
}
#endif

template <int kRowGroups>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    topk_scan_wgmma_kernel(const __grid_constant__ Scan scan, int num_stages) {
#if defined(HYPERTOWER_HAS_WGMMA)
  constexpr int kRows = kRowGroups * kGroupRows;
  constexpr int kTurns = kGroups / kRowGroups;  // groups that share rows
  constexpr int kWarps = kGroups * kGroupThreads / 32;
  DYN_SHARED(int4, shared);  // the stages, then row codes
  SHARED(Hit, queues, [kWarps][kHitQueue]);
  SHARED(RowGate, gates, [kWarps][16]);
  SHARED(int, rows, [kRows]);
  SHARED(StageNote, notes, [kMaxBulkStages]);
  SHARED(uint64_t, full, [kMaxBulkStages]);
  SHARED(uint64_t, empty, [kMaxBulkStages]);
  SHARED(TileSet, tiles, );
  const ItemCodes items = scan.plan->items;
  const int chunks = scan.chunks;
  int4* const stages = shared;
  int4* const row_codes = shared + num_stages * kStageChunks * kItemTile;
  const BlockShare share(ceil_div(scan.list.count(), kRows));
  const int self = static_cast<int>(threadIdx.x);
  const int lane = self % 32;
  const int warp = __shfl_sync(kFullMask, self / 32, 0);  // known to be the same in all lanes
  if (self == 0) {
    tiles = scan.tiles();
    for (int s = 0; s < num_stages; ++s) {
      ptx::mbarrier_init(&full[s], 1);
      ptx::mbarrier_init(&empty[s], kWarps / kTurns);
    }
    ptx::fence_barrier_init();
  }

  RingTurn turn{num_stages};  // goes on from unit to unit, with the parities of the barriers
  for (int unit = share.first(); unit < share.units(); unit += share.step()) {
    const int first = share.group(unit) * kRows;
    __syncthreads();
    load_row_codes<kRows>(scan, first, rows, row_codes, kWgmmaThreads);
    ptx::fence_proxy_async();
    __syncthreads();
    StageWalk walk(tiles, share.split(unit), share.splits, chunks);

    if (warp >= kWarps) {
      for (; !walk.done(); walk.next(), turn.next()) {
        if (lane == 0) {
          if (turn.round > 0) ptx::mbarrier_wait(&empty[turn.slot], (turn.round - 1) & 1U);
          const int64_t tile = walk.tile();
          const unsigned bytes =
              static_cast<unsigned>(walk.num_chunks()) * (kItemTile * kCodeChunk);
          notes[turn.slot].tile = static_cast<int>(tile);
          ptx::mbarrier_arrive_expect(&full[turn.slot], bytes + sizeof(TileBound));
          ptx::bulk_copy(&notes[turn.slot].bound, items.tiles + tile, sizeof(TileBound),
                         &full[turn.slot]);
          ptx::bulk_copy(stages + turn.slot * kStageChunks * kItemTile,
                         reinterpret_cast<const int4*>(items.codes) +
                             (tile * chunks + walk.first_chunk()) * kItemTile,
                         bytes, &full[turn.slot]);
        }
        __syncwarp();
      }
    } else {
      const int group = warp / 4;
      const int first_row = group % kRowGroups * kGroupRows + warp % 4 * 16;  // in the block's
      if (lane < 16) {
        const int row = first_row + lane;
        gates[warp][lane] = load_gate(scan, first + row, rows[row]);
      }
      __syncwarp();
      HitQueue queue(scan, queues[warp], rows + first_row);
      const int4* const group_codes = row_codes + group % kRowGroups * kGroupRows;
      int other = group / kRowGroups;  // tiles that are others' before the next of this group
      int dots[64];
      for (; !walk.done(); walk.next(), turn.next()) {
        if (other > 0) {
          other -= walk.ends_tile() ? 1 : 0;
          continue;
        }
        const int begin = walk.first_chunk();
        const int end = walk.num_chunks();
        ptx::mbarrier_wait(&full[turn.slot], turn.round & 1U);
        const StageNote note = notes[turn.slot];
        const ptx::SharedColumns a{group_codes + begin * kRows, kRows * kCodeChunk};
        const ptx::SharedColumns b{stages + turn.slot * kStageChunks * kItemTile,
                                   kItemTile * kCodeChunk};
        if (end == 8) {
          multiply<4>(a, b, begin > 0, dots);
        } else if (end == 6) {
          multiply<3>(a, b, begin > 0, dots);
        } else if (end == 4) {
          multiply<2>(a, b, begin > 0, dots);
        } else {
          multiply<1>(a, b, begin > 0, dots);
        }
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(&empty[turn.slot]);
        if (!walk.ends_tile()) continue;
        other = kTurns - 1;
        push_hits<16>(
            dots, least_dot(gates[warp][lane / 4], note.bound),
            least_dot(gates[warp][lane / 4 + 8], note.bound),
            static_cast<uint32_t>(note.tile) * kItemTile + static_cast<uint32_t>(lane % 4 * 2), 0,
            &queue);
      }
      queue.drain();
    }
  }
#endif
}

}  // namespace hypertower::cuda
