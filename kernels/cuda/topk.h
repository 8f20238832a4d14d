// CUDA implementation of kernels/topk.h; arguments have passed topk_check::shapes.
#pragma once

#include "kernels/cuda/topk_items.h"
#include "kernels/topk.h"

#include <limits>

namespace hypertower::cuda {

// How the items are looked at. kAuto: int8 where the items are quantised already or enough rows
// repay doing it, by the widest instruction the device has.
enum class TopKScan : uint8_t {
  kAuto,
  kDot,        // int8 dot products of plain threads, for few rows
  kMma,        // int8 tensor cores of sm_80
  kWgmma,      // int8 tensor cores of sm_90a
  kChunks,     // cuBLASLt's int8 product, then a selection; kAuto: many rows of many columns
  kReference,  // canonical scores of everything
};

// Rows by what became of them. Their sum is not the batch: most rows take none of these ways.
struct TopKPaths {
  int64_t gathered = 0;   // their mask passes so few items that those were scored at once
  int64_t packed = 0;     // their mask, shared by all, was used on the items before the scan
  int64_t too_many = 0;   // more candidates than a row may store: scanned again
  int64_t too_few = 0;    // the threshold was too high: scanned again
  int64_t reference = 0;  // scored as a whole
};

// The defaults are for callers, all but `items`; the rest is for tests. No option changes a result.
struct TopKOptions {
  // The same items, quantised before; null: this call does it, if it pays.
  const DeviceItems* items = nullptr;
  TopKScan scan = TopKScan::kAuto;
  // Candidates held for all rows of a pass together, 8 bytes each; more rows take more passes.
  int64_t scratch_keys = int64_t{1} << 24;
  int64_t capacity = 0;        // candidates of a row, at least k; 0: by k
  int64_t seed_stride = 0;     // every so manieth tile sets the first threshold; 0: by capacity
  int64_t warm_stride = 0;     // the same of the second threshold, divides seed_stride
  int64_t chunk_products = 0;  // of kChunks, held at once, 4 bytes each; 0: half of the L2 cache
  int64_t gather_limit = -1;   // allowed items of a row that is gathered; -1: capacity
  int64_t pack_limit = -1;     // allowed items of a shared mask that are packed; -1: a quarter
  float forced_threshold = std::numeric_limits<float>::quiet_NaN();  // in place of sampled ones
  TopKPaths* paths = nullptr;                                        // filled where not null
};

void topk(const TopKInput& in, const TopKOutput& out, void* stream,
          const TopKOptions& options = {});

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, void* stream);

}  // namespace hypertower::cuda
