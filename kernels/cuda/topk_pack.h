// A mask that all rows share, used once for all of them: the codes of the items that it passes are
// copied to tiles of their own, which the scans then look at in place of all. Without it each row
// would find most of its hits masked, and would have a low threshold, since few items of its sample
// count. Costs 20 bytes read per item and about 4 * dim moved per item that passes, so it is for
// masks that pass at most a quarter; the device knows whether they do, and decides.
#pragma once

#include "kernels/cuda/scratch.h"
#include "kernels/cuda/topk_codes.cuh"

namespace hypertower::cuda {

class PackedItems {
 public:
  // Takes device memory for up to `most` of the items.
  PackedItems(const ItemCodes& all, int64_t most, cudaStream_t stream);

  // Packs what mask 0 passes, `*passed` items as the device knows, unless they are more than `most`
  // or no more than `gathered`, which are not scanned. Writes the plan of the scans.
  void run(const TopKInput& in, const unsigned* passed, const RowPlan& rows, int64_t gathered,
           int multiprocessors, cudaStream_t stream);

  const ScanPlan* plan() const { return plan_.data(); }

 private:
  const ItemCodes all_;
  const int64_t most_;
  const int groups_;
  CodeMemory memory_;
  Scratch<ScanPlan> plan_;
  Scratch<uint32_t> words_;   // a bit per place of `all`: passes
  Scratch<unsigned> counts_;  // of a group of places
  Scratch<uint32_t> places_;  // in `all`, of each packed item
};

}  // namespace hypertower::cuda
