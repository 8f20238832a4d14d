// Chooses and launches the kernel that looks at the codes of the items. Used by topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk.h"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

// Whether the kernels here can keep the codes of a group of rows in shared memory, so that many
// rows share one read of the items.
bool fits_shared_memory(int chunks);

// The items of scan.tiles() against the rows of scan.list. kAuto: by rows and device; REQUIRES: not
// kChunks or kReference, and the device can run `kind`.
void scan_tiles(const Scan& scan, TopKScan kind, int all_tiles, int multiprocessors,
                cudaStream_t stream);

}  // namespace hypertower::cuda
