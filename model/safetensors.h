// The safetensors layout: 8-byte little-endian header length, JSON header, tensor bytes without
// holes. Any safetensors reader opens what we write; our reader trusts nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/shared_array.h"

namespace hypertower {

struct TensorInfo {
  std::string dtype;  // "F32" "F64" "I64" "I32" "U8"
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // little-endian
};

// A memory-mapped, fully checked file. Immutable, shareable between threads; spans live as long as
// the object. Nobody may write into the file meanwhile; replacing or removing it is fine. Errors
// (kModel) name the file and what is wrong: header longer than the file or than 100 MB, JSON
// broken, unknown dtype, overlap, hole, out of bounds, size not equal to shape x dtype.
class SafetensorsFile : public std::enable_shared_from_this<SafetensorsFile> {
 public:
  static std::shared_ptr<const SafetensorsFile> open(const std::string& path);
  // The same; `check` sees all bytes of the file before anything in it is believed.
  static std::shared_ptr<const SafetensorsFile> open(
      const std::string& path, const std::function<void(std::span<const std::byte>)>& check);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  // Typed access with expected shape (-1 = any). Throws Error(kModel) naming file and tensor;
  // `floats` also refuses NaN and infinity.
  std::span<const float> floats(const std::string& name, const std::vector<int64_t>& shape) const;
  // The same numbers, not looked at, for as long as the array lives: those of a large tensor stay
  // in the mapped file, a small one is copied so that not every model depends on its files.
  SharedArray<float> array(const std::string& name, const std::vector<int64_t>& shape) const;
  std::span<const int64_t> int64s(const std::string& name, const std::vector<int64_t>& shape) const;
  std::span<const int32_t> int32s(const std::string& name, const std::vector<int64_t>& shape) const;
  std::span<const double> doubles(const std::string& name, const std::vector<int64_t>& shape) const;
  // Strings stored as "<name>.bytes" U8 and "<name>.offsets" I64.
  std::vector<std::string> strings(const std::string& name) const;

 private:
  SafetensorsFile() = default;
  void map();
  void parse();

  std::string path_;
  void* map_ = nullptr;
  size_t map_size_ = 0;
  std::map<std::string, TensorInfo> tensors_;
};

// Collects tensors and writes the file; fsyncs it. The numbers that are added must live until then,
// texts are copied. Errors (kIo) name path and reason
// ("No space left on device").
class SafetensorsWriter {
 public:
  void add(const std::string& name, std::vector<int64_t> shape, std::span<const float> data);
  void add(const std::string& name, std::vector<int64_t> shape, std::span<const double> data);
  void add(const std::string& name, std::vector<int64_t> shape, std::span<const int64_t> data);
  void add(const std::string& name, std::vector<int64_t> shape, std::span<const int32_t> data);
  void add_strings(const std::string& name, std::span<const std::string> values);
  void write(const std::string& path) const;

 private:
  struct Entry {
    std::string dtype;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
  };
  void add_raw(const std::string& name, std::string dtype, std::vector<int64_t> shape,
               std::span<const std::byte> bytes);
  std::map<std::string, Entry> tensors_;
  std::vector<std::shared_ptr<const void>> texts_;  // what add_strings made
};

}  // namespace hypertower
