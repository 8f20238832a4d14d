// Chooses and launches the kernel that looks at the codes of the items. Used by topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk.h"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

// The items of scan.tiles against the rows of scan.list. REQUIRES: the device can run `kind`.
void scan_tiles(const Scan& scan, TopKScan kind, int multiprocessors, cudaStream_t stream);

}  // namespace hypertower::cuda
