#include "kernels/cuda/topk_scan.h"

#include <algorithm>

#include "kernels/cuda/topk_scan_dot.cuh"
#include "kernels/cuda/topk_scan_mma.cuh"
#include "kernels/cuda/topk_scan_wgmma.cuh"

namespace hypertower::cuda {
namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0;
  int value = 0;
  check(cudaGetDevice(&device), "topk scan");
  check(cudaDeviceGetAttribute(&value, which, device), "topk scan");
  return value;
}

// More than the static shared memory of any kernel here.
constexpr size_t kStaticShared = 14 * 1024;

struct Shape {
  int rows;  // that a block takes at once
  int threads;
  size_t shared;
  int per_multiprocessor;  // blocks
};

// Blocks that stay and share the work; fewer where even all tiles are few.
template <class... More>
void launch_scan(void (*kernel)(Scan, More...), const char* name, const Scan& scan,
                 const Shape& shape, int all_tiles, int multiprocessors, cudaStream_t stream,
                 More... more) {
  const int64_t units = ceil_div<int64_t>(scan.in.queries.rows, shape.rows) * all_tiles;
  const int64_t blocks =
      std::min<int64_t>(units, int64_t{multiprocessors} * shape.per_multiprocessor);
  check(launch(kernel,
               {.grid = static_cast<unsigned>(blocks),
                .block = static_cast<unsigned>(shape.threads),
                .smem = shape.shared,
                .stream = stream,
                .name = name},
               scan, more...),
        name);
}

template <int kRows>
void launch_dot(const Scan& scan, int all_tiles, int multiprocessors, cudaStream_t stream) {
  launch_scan(topk_scan_dot_kernel<kRows>, "topk_scan_dot", scan,
              {kRows, kDotThreads, dot_scan_shared(kRows, scan.chunks), kDotBlocks<kRows>},
              all_tiles, multiprocessors, stream);
}

}  // namespace

bool fits_shared_memory(int chunks) {
  const size_t most =
      std::max(mma_scan_shared(chunks), wgmma_scan_shared(2, kMinBulkStages, chunks));
  return most + kStaticShared <=
         static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

void scan_tiles(const Scan& scan, TopKScan kind, int all_tiles, int multiprocessors,
                cudaStream_t stream) {
  const int64_t rows = scan.in.queries.rows;
  const int chunks = scan.chunks;
  if (kind == TopKScan::kAuto) {
    // Code for sm_90a runs on devices of version 9.0 and no other.
    const bool hopper = attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
                        attribute(cudaDevAttrComputeCapabilityMinor) == 0;
    // Measured on an H200: from two rows on the copies of wgmma's producer read faster.
    const int64_t few = hopper ? 1 : 8;
    kind = rows <= few || !fits_shared_memory(chunks) ? TopKScan::kDot
           : hopper                                   ? TopKScan::kWgmma
                                                      : TopKScan::kMma;
  }
  if (kind == TopKScan::kDot) {
    if (rows == 1) {
      launch_dot<1>(scan, all_tiles, multiprocessors, stream);
    } else if (rows <= 4) {
      launch_dot<4>(scan, all_tiles, multiprocessors, stream);
    } else {
      launch_dot<8>(scan, all_tiles, multiprocessors, stream);
    }
  } else if (kind == TopKScan::kMma) {
    launch_scan(topk_scan_mma_kernel, "topk_scan_mma", scan,
                {kMmaRows, kMmaThreads, mma_scan_shared(chunks), 2}, all_tiles, multiprocessors,
                stream);
  } else {
    const auto there = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
    const auto fits = [&](int groups, int stages) {
      return wgmma_scan_shared(groups, stages, chunks) + kStaticShared <= there;
    };
    int groups = rows <= kGroupRows ? 1 : rows <= 2 * kGroupRows ? 2 : kGroups;
    if (groups > 2 && !fits(groups, kMinBulkStages)) groups = 2;
    int stages = kMaxBulkStages;
    while (stages > kMinBulkStages && !fits(groups, stages)) --stages;
    launch_scan(groups == 1   ? topk_scan_wgmma_kernel<1>
                : groups == 2 ? topk_scan_wgmma_kernel<2>
                              : topk_scan_wgmma_kernel<kGroups>,
                "topk_scan_wgmma", scan,
                {groups * kGroupRows, kWgmmaThreads, wgmma_scan_shared(groups, stages, chunks), 1},
                all_tiles, multiprocessors, stream, stages);
  }
}

}  // namespace hypertower::cuda
