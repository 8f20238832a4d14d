#include "model/index_file.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "kernels/parallel.h"

namespace hypertower {
namespace {

using cpu::Slot;
using cpu::TileBounds;
static_assert(sizeof(Slot) == 8 && sizeof(TileBounds) == 16);

[[noreturn]] void broken(const std::string& what) {
  throw Error(ErrorKind::kModel, what);
}

// The raw bytes of a tensor, which may hold infinities.
const std::byte* tensor(const SafetensorsFile& file, const std::string& name,
                        const std::string& dtype, const std::vector<int64_t>& shape) {
  const auto at = file.tensors().find(name);
  if (at == file.tensors().end()) broken("tensor '" + name + "' is missing");
  const TensorInfo& info = at->second;
  if (info.dtype != dtype || info.shape != shape) {
    broken("tensor '" + name + "' does not fit the vectors of the items");
  }
  if (reinterpret_cast<uintptr_t>(info.bytes.data()) % 4 != 0) {
    broken("tensor '" + name + "' is not aligned to 4 bytes");
  }
  return info.bytes.data();
}

bool codes_match(const cpu::Tiles& tiles, MatrixView<const float> vectors, int64_t first) {
  cpu::QuantizedBlock block;
  cpu::quantize_block(vectors, first, std::min(cpu::kBlockItems, vectors.rows - first),
                      tiles.center, tiles.weight, &block);
  const cpu::TileOrder order(tiles.tiles);
  for (int64_t t = 0; t < static_cast<int64_t>(block.bounds.size()); ++t) {
    const int64_t place = order.place_of(first / cpu::kTileItems + t);
    if (std::memcmp(block.bytes.data() + t * tiles.tile_bytes(), tiles.tile(place),
                    static_cast<size_t>(tiles.tile_bytes())) != 0 ||
        !std::equal(tiles.slots + place * cpu::kTileItems,
                    tiles.slots + (place + 1) * cpu::kTileItems,
                    block.slots.begin() + t * cpu::kTileItems)) {
      return false;
    }
  }
  return true;
}

template <class T>
std::span<const T> words(const void* data, int64_t count) {
  return {static_cast<const T*>(data), static_cast<size_t>(count)};
}

}  // namespace

bool write_index_file(MatrixView<const float> vectors, const std::string& path) {
  if (vectors.rows < kMinItemsForIndexFile) return false;
  const TopKIndex index = TopKIndex::build(vectors, nullptr, hardware_threads());
  const cpu::Tiles tiles = index.tiles();
  if (tiles.tiles == 0) return false;
  SafetensorsWriter writer;
  writer.add("codes", {tiles.tiles, tiles.steps, cpu::kTileItems},
             words<int32_t>(tiles.bytes, tiles.tiles * tiles.tile_bytes() / 4));
  writer.add("slots", {tiles.tiles, cpu::kTileItems, 2},
             words<int32_t>(tiles.slots, tiles.tiles * cpu::kTileItems * 2));
  writer.add("bounds", {tiles.tiles, 4}, words<float>(tiles.bounds, tiles.tiles * 4));
  writer.add("center", {vectors.cols}, words<float>(tiles.center, vectors.cols));
  writer.add("weight", {vectors.cols}, words<float>(tiles.weight, vectors.cols));
  writer.write(path);
  return true;
}

MappedTiles read_index_file(std::shared_ptr<const SafetensorsFile> file,
                            MatrixView<const float> vectors) {
  const int64_t count = cpu::tiles_of(vectors.rows), steps = cpu::steps_of(vectors.cols);
  cpu::Tiles tiles;
  tiles.tiles = count;
  tiles.steps = steps;
  tiles.bytes = reinterpret_cast<const uint8_t*>(
      tensor(*file, "codes", "I32", {count, steps, cpu::kTileItems}));
  tiles.slots =
      reinterpret_cast<const Slot*>(tensor(*file, "slots", "I32", {count, cpu::kTileItems, 2}));
  tiles.bounds = reinterpret_cast<const TileBounds*>(tensor(*file, "bounds", "F32", {count, 4}));
  tiles.center = file->floats("center", {vectors.cols}).data();
  tiles.weight = file->floats("weight", {vectors.cols}).data();
  const int64_t last = (vectors.rows - 1) / cpu::kBlockItems * cpu::kBlockItems;
  if (vectors.rows < 1 || !tiles_are_sound(tiles, vectors.rows, vectors.cols) ||
      !codes_match(tiles, vectors, 0) || !codes_match(tiles, vectors, last)) {
    broken("it was not made from the vectors of the items");
  }
  return {tiles, std::move(file)};
}

}  // namespace hypertower
