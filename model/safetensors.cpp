#include "model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "kernels/error.h"
#include "model/file_io.h"

namespace hypertower {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the layout is little-endian");

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kPrefix = 8;  // length of the header
constexpr const char* kCure = " Copy the file again or export the model again.";

[[noreturn]] void broken(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kModel, path + ": " + what + "." + kCure);
}

std::string quoted(const std::string& name) {
  return "tensor '" + name + "'";
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + (shape[i] < 0 ? "any" : std::to_string(shape[i]));
  }
  return text + "]";
}

// Bytes per element, 0 for a dtype that we do not read.
size_t element_size(const std::string& dtype) {
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "F64" || dtype == "I64") return 8;
  return dtype == "U8" ? 1 : 0;
}

struct Entry {
  std::string name;
  TensorInfo info;
  uint64_t begin;
  uint64_t end;
};

std::vector<int64_t> read_shape(const std::string& path, const std::string& name, const json& j) {
  if (!j.is_array()) broken(path, quoted(name) + " has no shape");
  std::vector<int64_t> shape;
  for (const json& size : j) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > (uint64_t{1} << 48)) {
      broken(path, quoted(name) + " has a size that is no whole number below 2^48");
    }
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

Entry read_entry(const std::string& path, const std::string& name, const json& j) {
  if (!j.is_object() || !j.contains("dtype") || !j.contains("shape") ||
      !j.contains("data_offsets") || !j["dtype"].is_string()) {
    broken(path, quoted(name) + " needs dtype, shape and data_offsets");
  }
  Entry entry{name, {}, 0, 0};
  entry.info.dtype = j["dtype"].get<std::string>();
  const size_t element = element_size(entry.info.dtype);
  if (element == 0) {
    broken(path, quoted(name) + " has the dtype '" + entry.info.dtype +
                     "', but only F32, F64, I32, I64 and U8 are read");
  }
  entry.info.shape = read_shape(path, name, j["shape"]);
  const json& offsets = j["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned() || offsets[0].get<uint64_t>() > offsets[1].get<uint64_t>()) {
    broken(path, quoted(name) + " needs two ascending data_offsets");
  }
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  uint64_t bytes = element;
  for (const int64_t size : entry.info.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) {
      broken(path, quoted(name) + " has a shape that overflows");
    }
  }
  if (bytes != entry.end - entry.begin) {
    broken(path, quoted(name) + " of shape " + shape_text(entry.info.shape) + " needs " +
                     std::to_string(bytes) + " bytes, its data_offsets hold " +
                     std::to_string(entry.end - entry.begin));
  }
  return entry;
}

// The tensors must cover the data without overlap, hole or rest.
void check_layout(const std::string& path, std::vector<Entry>& entries, uint64_t data_size) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const Entry& e : entries) {
    if (e.end > data_size) {
      broken(path, "truncated: " + quoted(e.name) + " ends at byte " + std::to_string(e.end) +
                       " of the data, the file holds " + std::to_string(data_size));
    }
    if (e.begin < expected) broken(path, quoted(e.name) + " overlaps the one before it");
    if (e.begin > expected) {
      broken(path, "there is a hole of " + std::to_string(e.begin - expected) + " bytes before " +
                       quoted(e.name));
    }
    expected = e.end;
  }
  if (expected != data_size) {
    broken(path,
           std::to_string(data_size - expected) + " bytes after the last tensor belong to none");
  }
}

template <class T>
std::span<const T> typed(const std::string& path, const std::map<std::string, TensorInfo>& tensors,
                         const std::string& name, const std::string& dtype,
                         const std::vector<int64_t>& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) broken(path, quoted(name) + " is missing");
  const TensorInfo& info = found->second;
  if (info.dtype != dtype) {
    broken(path, quoted(name) + ": expected the dtype " + dtype + ", found " + info.dtype);
  }
  const bool fits = std::equal(info.shape.begin(), info.shape.end(), shape.begin(), shape.end(),
                               [](int64_t a, int64_t b) { return a == b || b < 0; });
  if (!fits) {
    broken(path, quoted(name) + ": expected the shape " + shape_text(shape) + ", found " +
                     shape_text(info.shape));
  }
  if (info.bytes.empty()) return {};
  if (reinterpret_cast<uintptr_t>(info.bytes.data()) % alignof(T) != 0) {
    broken(path, quoted(name) + " is not aligned to " + std::to_string(alignof(T)) + " bytes");
  }
  return {reinterpret_cast<const T*>(info.bytes.data()), info.bytes.size() / sizeof(T)};
}

template <class T>
std::span<const std::byte> bytes_of(std::span<const T> data) {
  return std::as_bytes(data);
}

}  // namespace

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  return open(path, [](std::span<const std::byte>) {});
}

std::shared_ptr<const SafetensorsFile> SafetensorsFile::open(
    const std::string& path, const std::function<void(std::span<const std::byte>)>& check) {
  const std::shared_ptr<SafetensorsFile> file(new SafetensorsFile);
  file->path_ = path;
  file->map();
  check({static_cast<const std::byte*>(file->map_), file->map_size_});
  file->parse();
  return file;
}

void SafetensorsFile::map() {
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  const bool opened = fd >= 0 && ::fstat(fd, &info) == 0;
  if (opened && info.st_size > 0) {
    void* address =
        ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (address != MAP_FAILED) {
      map_ = address;
      map_size_ = static_cast<size_t>(info.st_size);
    }
  }
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (opened && info.st_size == 0) broken(path_, "truncated: the file is empty");
  if (map_ == nullptr) {
    throw Error(ErrorKind::kModel, path_ + ": cannot be read: " +
                                       std::generic_category().message(error) + "." + kCure);
  }
}

void SafetensorsFile::parse() {
  const auto* bytes = static_cast<const std::byte*>(map_);
  uint64_t header_size = 0;
  if (map_size_ < kPrefix) broken(path_, "truncated: shorter than the 8 bytes of a header length");
  std::memcpy(&header_size, bytes, kPrefix);
  if (header_size > kMaxHeader) {
    broken(path_, "not a safetensors file: its header would be " + std::to_string(header_size) +
                      " bytes long, 100000000 are allowed");
  }
  if (header_size > map_size_ - kPrefix) {
    broken(path_, "truncated: the header is " + std::to_string(header_size) +
                      " bytes long, the file holds " + std::to_string(map_size_ - kPrefix));
  }
  const auto* text = reinterpret_cast<const char*>(bytes + kPrefix);
  const json header = json::parse(text, text + header_size, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) broken(path_, "the header is not valid JSON");

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") entries.push_back(read_entry(path_, name, value));
  }
  const uint64_t data_size = map_size_ - kPrefix - header_size;
  check_layout(path_, entries, data_size);
  const std::byte* data = bytes + kPrefix + header_size;
  for (Entry& e : entries) {
    e.info.bytes = {data + e.begin, static_cast<size_t>(e.end - e.begin)};
    tensors_.emplace(std::move(e.name), std::move(e.info));
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) ::munmap(map_, map_size_);
}

std::span<const float> SafetensorsFile::floats(const std::string& name,
                                               const std::vector<int64_t>& shape) const {
  const std::span<const float> data = typed<float>(path_, tensors_, name, "F32", shape);
  const auto bad =
      std::find_if_not(data.begin(), data.end(), [](float x) { return std::isfinite(x); });
  if (bad != data.end()) {
    broken(path_, quoted(name) + " holds " + (std::isnan(*bad) ? "NaN" : "infinity") +
                      " at element " + std::to_string(bad - data.begin()));
  }
  return data;
}

SharedArray<float> SafetensorsFile::array(const std::string& name,
                                          const std::vector<int64_t>& shape) const {
  constexpr size_t kLarge = size_t{16} << 20;  // bytes
  const std::span<const float> data = typed<float>(path_, tensors_, name, "F32", shape);
  if (data.size_bytes() < kLarge) return std::vector<float>(data.begin(), data.end());
  return {data, shared_from_this()};
}

std::span<const int64_t> SafetensorsFile::int64s(const std::string& name,
                                                 const std::vector<int64_t>& shape) const {
  return typed<int64_t>(path_, tensors_, name, "I64", shape);
}

std::span<const int32_t> SafetensorsFile::int32s(const std::string& name,
                                                 const std::vector<int64_t>& shape) const {
  return typed<int32_t>(path_, tensors_, name, "I32", shape);
}

std::span<const double> SafetensorsFile::doubles(const std::string& name,
                                                 const std::vector<int64_t>& shape) const {
  return typed<double>(path_, tensors_, name, "F64", shape);
}

std::vector<std::string> SafetensorsFile::strings(const std::string& name) const {
  const auto bytes = typed<uint8_t>(path_, tensors_, name + ".bytes", "U8", {-1});
  const auto offsets = int64s(name + ".offsets", {-1});
  const bool framed = !offsets.empty() && offsets.front() == 0 &&
                      offsets.back() == static_cast<int64_t>(bytes.size());
  if (!framed || !std::is_sorted(offsets.begin(), offsets.end())) {
    broken(path_, quoted(name + ".offsets") + " does not ascend from 0 to the number of bytes");
  }
  std::vector<std::string> texts;
  texts.reserve(offsets.size() - 1);
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    texts.emplace_back(text + offsets[i], text + offsets[i + 1]);
  }
  return texts;
}

void SafetensorsWriter::add(const std::string& name, std::vector<int64_t> shape,
                            std::span<const float> data) {
  add_raw(name, "F32", std::move(shape), bytes_of(data));
}

void SafetensorsWriter::add(const std::string& name, std::vector<int64_t> shape,
                            std::span<const double> data) {
  add_raw(name, "F64", std::move(shape), bytes_of(data));
}

void SafetensorsWriter::add(const std::string& name, std::vector<int64_t> shape,
                            std::span<const int64_t> data) {
  add_raw(name, "I64", std::move(shape), bytes_of(data));
}

void SafetensorsWriter::add(const std::string& name, std::vector<int64_t> shape,
                            std::span<const int32_t> data) {
  add_raw(name, "I32", std::move(shape), bytes_of(data));
}

void SafetensorsWriter::add_strings(const std::string& name, std::span<const std::string> values) {
  const auto bytes = std::make_shared<std::string>();
  const auto offsets = std::make_shared<std::vector<int64_t>>(1, 0);
  for (const std::string& value : values) {
    *bytes += value;
    offsets->push_back(static_cast<int64_t>(bytes->size()));
  }
  texts_.insert(texts_.end(), {bytes, offsets});
  add_raw(name + ".bytes", "U8", {static_cast<int64_t>(bytes->size())},
          std::as_bytes(std::span(*bytes)));
  add(name + ".offsets", {static_cast<int64_t>(offsets->size())},
      std::span<const int64_t>(*offsets));
}

void SafetensorsWriter::add_raw(const std::string& name, std::string dtype,
                                std::vector<int64_t> shape, std::span<const std::byte> bytes) {
  size_t expected = element_size(dtype);
  for (const int64_t size : shape) expected *= static_cast<size_t>(size);
  if (expected != bytes.size() || tensors_.contains(name)) {
    throw Error(
        ErrorKind::kArgument,
        quoted(name) + (tensors_.contains(name) ? " is added twice"
                                                : ": the shape " + shape_text(shape) + " needs " +
                                                      std::to_string(expected) + " bytes, got " +
                                                      std::to_string(bytes.size())));
  }
  tensors_.emplace(name, Entry{std::move(dtype), std::move(shape), bytes});
}

void SafetensorsWriter::write(const std::string& path) const {
  // Wide elements first, and a header that ends at a cache line: every tensor is aligned, and the
  // first one as vector instructions like it.
  std::vector<const std::pair<const std::string, Entry>*> order;
  for (const auto& tensor : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const size_t wide_a = element_size(a->second.dtype);
    const size_t wide_b = element_size(b->second.dtype);
    return wide_a != wide_b ? wide_a > wide_b : a->first < b->first;
  });
  json header = json::object();
  uint64_t offset = 0;
  for (const auto* tensor : order) {
    const Entry& e = tensor->second;
    header[tensor->first] = {{"dtype", e.dtype},
                             {"shape", e.shape},
                             {"data_offsets", {offset, offset + e.bytes.size()}}};
    offset += e.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + kPrefix + 63) / 64 * 64 - kPrefix, ' ');
  const uint64_t length = text.size();
  std::array<std::byte, kPrefix> prefix;
  std::memcpy(prefix.data(), &length, kPrefix);

  std::vector<std::span<const std::byte>> parts = {prefix, std::as_bytes(std::span(text))};
  for (const auto* tensor : order) parts.emplace_back(tensor->second.bytes);
  try {
    write_file(path, parts);
  } catch (const std::system_error& e) {
    throw Error(ErrorKind::kIo, "cannot write '" + path + "': " + e.code().message() + ".");
  }
}

}  // namespace hypertower
