// The masks and lists of a top-K call: checked, and the lists sorted for a search by row and item.
// Used by topk.cu.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/topk_rows.cuh"

namespace hypertower::cuda {

// The host's copy of the offsets of both lists.
struct ListOffsets {
  std::vector<int64_t> exclude, adjust;

  int64_t at(int64_t row) const {
    return (exclude.empty() ? 0 : exclude[row]) + (adjust.empty() ? 0 : adjust[row]);
  }
};

// Throws what topk_check says of the lists and masks. Synchronises where there are any.
ListOffsets check_lists(const TopKInput& in, cudaStream_t stream);

// The lists of all rows, sorted; owns the memory behind ListedItems.
class SortedLists {
 public:
  SortedLists(const TopKInput& in, const ListOffsets& offsets, cudaStream_t stream);

  // As seen by a call for the rows from `first_row` on.
  ListedItems view(int64_t first_row) const {
    ListedItems listed = listed_;
    listed.first_row = first_row;
    return listed;
  }
  int64_t longest() const { return longest_; }  // entries of the longest row

 private:
  int64_t size_;
  Scratch<uint64_t> keys_;
  Scratch<uint32_t> delta_bits_;
  ListedItems listed_{};
  int64_t longest_ = 0;
};

}  // namespace hypertower::cuda
