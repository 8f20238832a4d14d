// index.safetensors: the prepared form of a large catalogue (kernels/topk_index.h), mapped at load
// instead of being made again. Small catalogues have none: they are prepared faster than a file is
// opened.
//
// codes I32 [tiles, steps, 48], slots I32 [tiles, 48, 2] (bits of the scale, row), bounds F32
// [tiles, 4], center and weight F32 [dim]; their meaning is in kernels/cpu/topk_tiles.h.
#pragma once

#include <memory>
#include <string>

#include "kernels/tensor.h"
#include "kernels/topk_index.h"
#include "model/safetensors.h"

namespace hypertower {

inline constexpr int64_t kMinItemsForIndexFile = 65'536;

// False, and no file, where the vectors are few or better scanned as floats.
// Errors (kIo) as SafetensorsWriter.
bool write_index_file(MatrixView<const float> vectors, const std::string& path);

// Holds the file for as long as the tiles are used.
struct MappedTiles {
  cpu::Tiles tiles;
  std::shared_ptr<const SafetensorsFile> file;
};

// Errors (kModel): tensors that do not fit `vectors`, places out of range, codes that are not those
// of the vectors (looked at in the first and the last block).
MappedTiles read_index_file(std::shared_ptr<const SafetensorsFile> file,
                            MatrixView<const float> vectors);

}  // namespace hypertower
