// Many rows against all items on the tensor cores of sm_80 and later: a block takes 128 rows, whose
// codes stay in shared memory, and lets tiles of 128 items pass by in a ring of cp.async stages.
// Two warps side by side and four above each other take 32 rows and 64 items each; thresholds and
// dot products live in registers and are never written anywhere.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_queue.cuh"

namespace hypertower::cuda {

inline constexpr int kMmaThreads = 256;
inline constexpr int kMmaRows = 128;
// A stage holds up to 128 columns of a tile.
inline constexpr int kStageChunks = 8;
inline constexpr int kStageBytes = kStageChunks * kItemTile * kCodeChunk;
inline constexpr int kMmaStages = 3;

inline size_t mma_scan_shared(int chunks) {
  return static_cast<size_t>(chunks) * kMmaRows * kCodeChunk + size_t{kMmaStages} * kStageBytes;
}

// The stages of a block, one after the other: its tiles, and of each the columns part by part.
// `tiles` must outlive it.
class StageWalk {
 public:
  __device__ StageWalk(const TileSet& tiles, int first, int step, int chunks)
      : tiles_(tiles), index_(first), step_(step), chunks_(chunks) {}
  __device__ bool done() const { return index_ >= tiles_.count; }
  __device__ int tile() const { return tiles_[index_]; }
  __device__ int first_chunk() const { return first_chunk_; }
  __device__ int num_chunks() const { return min(chunks_ - first_chunk_, kStageChunks); }
  __device__ bool ends_tile() const { return first_chunk_ + kStageChunks >= chunks_; }
  __device__ void next() {
    const bool end = ends_tile();
    first_chunk_ = end ? 0 : first_chunk_ + kStageChunks;
    index_ += end ? step_ : 0;
  }

 private:
  const TileSet& tiles_;
  int index_, step_, chunks_;
  int first_chunk_ = 0;
};

// What comes with a stage: which tile it is of and what bounds that tile.
struct StageNote {
  TileBound bound;
  int tile;
};

// The codes of kRowsPerBlock rows of the list to shared memory as [chunks][kRowsPerBlock][16]; rows
// behind the end of the list repeat row 0 and get no gate.
template <int kRowsPerBlock>
__device__ inline void load_row_codes(const Scan& scan, int first, int* rows, int4* codes,
                                      int threads) {
  const int size = scan.list.count();
  const int chunks = scan.chunks;
  const int self = static_cast<int>(threadIdx.x);
  for (int r = self; r < kRowsPerBlock; r += threads) {
    rows[r] = first + r < size ? scan.list.rows[first + r] : 0;
  }
  for (int i = self; i < kRowsPerBlock * chunks; i += threads) {
    const int r = i / chunks;
    const int64_t row = first + r < size ? scan.list.rows[first + r] : 0;
    codes[i % chunks * kRowsPerBlock + r] =
        reinterpret_cast<const int4*>(scan.rows.codes)[row * chunks + i % chunks];
  }
}

__device__ inline RowGate load_gate(const Scan& scan, int place, int row) {
  if (place >= static_cast<int>(*scan.list.size)) return {};
  return make_gate(scan.rows.bounds[row], scan.rows.threshold[row]);
}

__global__ void __launch_bounds__(kMmaThreads, 2)
    topk_scan_mma_kernel(const __grid_constant__ Scan scan) {
  DYN_SHARED(int4, shared);  // row codes, then the stages
  SHARED(Hit, queues, [kMmaThreads / 32][kHitQueue]);
  SHARED(int, rows, [kMmaRows]);
  SHARED(StageNote, notes, [kMmaStages]);
  const ItemCodes items = scan.plan->items;
  const TileSet tiles = scan.tiles();
  const int chunks = scan.chunks;
  int4* const row_codes = shared;
  int4* const stages = shared + chunks * kMmaRows;
  const BlockShare share(ceil_div(scan.list.count(), kMmaRows));
  const int self = static_cast<int>(threadIdx.x);
  const int lane = self % 32;
  const int first_row = self / 64 * 32;       // of the warp, in the group
  const int first_item = self / 32 % 2 * 64;  // in the tile

  for (int unit = share.first(); unit < share.units(); unit += share.step()) {
    const int first = share.group(unit) * kMmaRows;
    __syncthreads();
    load_row_codes<kMmaRows>(scan, first, rows, row_codes, kMmaThreads);
    __syncthreads();
    RowGate gates[2][2];  // by 16 rows, by half of them
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = first_row + 16 * m + 8 * half + lane / 4;
        gates[m][half] = load_gate(scan, first + r, rows[r]);
      }
    }
    HitQueue queue(scan, queues[self / 32], rows + first_row);

    StageWalk ahead(tiles, share.split(unit), share.splits, chunks);
    StageWalk walk = ahead;
    int slot_ahead = 0;
    const auto fetch = [&] {
      if (!ahead.done()) {
        const int64_t tile = ahead.tile();
        const auto* from = reinterpret_cast<const int4*>(items.codes) +
                           (tile * chunks + ahead.first_chunk()) * kItemTile;
        int4* to = stages + slot_ahead * (kStageChunks * kItemTile);
        const int count = ahead.num_chunks() * kItemTile;
        for (int i = self; i < count; i += kMmaThreads) ptx::cp_async16(to + i, from + i);
        if (self == 0) {
          ptx::cp_async16(&notes[slot_ahead].bound, items.tiles + tile);
          notes[slot_ahead].tile = static_cast<int>(tile);
        }
        ahead.next();
        slot_ahead = slot_ahead + 1 == kMmaStages ? 0 : slot_ahead + 1;
      }
      ptx::cp_async_commit();
    };
    for (int stage = 0; stage < kMmaStages - 1; ++stage) fetch();

    int dots[2][32];
    for (int slot = 0; !walk.done(); slot = slot + 1 == kMmaStages ? 0 : slot + 1, walk.next()) {
      ptx::cp_async_wait<kMmaStages - 2>();
      __syncthreads();
      fetch();  // into the slot that all warps have left
      const int begin = walk.first_chunk();
      if (begin == 0) {
#pragma unroll
        for (int i = 0; i < 32; ++i) dots[0][i] = dots[1][i] = 0;
      }
      // Lane l names row l % 8 of 8 x 16 bytes number l / 8: for rows (low, high) x (k low, k
      // high), for items (k low, k high) x (block 0, 1).
      const int4* a = row_codes + (begin + lane / 16) * kMmaRows + first_row + lane % 16;
      const int4* b = stages + slot * (kStageChunks * kItemTile) + lane / 8 % 2 * kItemTile +
                      first_item + lane / 16 * 8 + lane % 8;
      const int end = walk.num_chunks();
      for (int c = 0; c < end; c += 2) {
        uint32_t rows_of_a[2][4];
        ptx::ldmatrix_x4(rows_of_a[0], a + c * kMmaRows);
        ptx::ldmatrix_x4(rows_of_a[1], a + c * kMmaRows + 16);
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          uint32_t items_of_b[4];
          ptx::ldmatrix_x4(items_of_b, b + c * kItemTile + 16 * pair);
#pragma unroll
          for (int n = 0; n < 2; ++n) {
            const uint32_t fragment[2] = {items_of_b[2 * n], items_of_b[2 * n + 1]};
#pragma unroll
            for (int m = 0; m < 2; ++m) {
              int* d = dots[m] + 4 * (2 * pair + n);
              ptx::mma_m16n8k32_s8(reinterpret_cast<int(&)[4]>(*d), rows_of_a[m], fragment,
                                   reinterpret_cast<int(&)[4]>(*d));
            }
          }
        }
      }
      if (!walk.ends_tile()) continue;
      const int64_t tile = notes[slot].tile;
      const TileBound bound = notes[slot].bound;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        push_hits<8>(dots[m], least_dot(gates[m][0], bound), least_dot(gates[m][1], bound),
                     tile * kItemTile + first_item + lane % 4 * 2, 16 * m, &queue);
      }
    }
    ptx::cp_async_wait<0>();
    queue.drain();
  }
}

}  // namespace hypertower::cuda
