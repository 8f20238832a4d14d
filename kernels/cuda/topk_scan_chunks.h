// The scan by a vendor library: the tiles in chunks, of each the products of all rows by one int8
// matrix product (matmul_int8.h), then a kernel that reads the products once and lets pass what the
// gates allow. A chunk's products fill half of the L2 cache, so that they need not leave it. Costs
// 8 bytes of L2 traffic per row and item that the fused scans do not have; takes any number of
// columns, and is what those are to be compared with.
#pragma once

#include "kernels/cuda/matmul_int8.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

class ChunkScan {
 public:
  // For up to `max_rows` rows. Takes device memory: `products` int32 (0: by the L2 cache), at least
  // a tile per row, and the codes of as many items.
  ChunkScan(int64_t max_rows, const ItemCodes& items, int64_t products, cudaStream_t stream);

  // The items of these tiles against the rows of scan.list, which names rows of the
  // call.
  void run(const Scan& scan, const TileSet& tiles, int multiprocessors, cudaStream_t stream);

 private:
  const ItemCodes items_;
  const int chunk_tiles_;
  Int8Matmul matmul_;
  Scratch<int4> codes_;    // [items of a chunk][code chunks]
  Scratch<int> products_;  // [rows][items of a chunk]
};

}  // namespace hypertower::cuda
