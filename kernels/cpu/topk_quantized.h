// Int8 tiles of a matrix, with the memory they lie in.
#pragma once

#include <vector>

#include "kernels/cpu/topk_tiles.h"
#include "kernels/huge_buffer.h"
#include "kernels/tensor.h"

namespace hypertower::cpu {

// Memory of all arrays.
int64_t bytes_of(const Tiles& tiles);

class QuantizedItems {
 public:
  QuantizedItems() = default;
  // Quantises finite rows, blocks in parallel. Nothing (tiles() is empty) for 0 columns or more
  // than kMaxDim.
  QuantizedItems(MatrixView<const float> items, int threads);

  Tiles tiles() const { return tiles_; }

 private:
  HugeBuffer bytes_, bounds_, slots_;
  std::vector<float> center_, weight_;
  Tiles tiles_;
};

}  // namespace hypertower::cpu
