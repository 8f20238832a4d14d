// Plain views of memory that somebody else owns, and the place an op runs in. No op allocates what
// a caller can see; views are two pointers wide and passed by value.
#pragma once

#include <cassert>
#include <cstdint>
#include <span>
#include <type_traits>

namespace hypertower {

enum class DeviceType : uint8_t { kCpu, kCuda };

// Where an op runs. All pointers of one call live there, except where a header says "host".
// CPU: `threads` worker threads at most (>= 1); results never depend on the number.
// CUDA: work is enqueued on `stream` (a cudaStream_t); ops do not synchronise unless they say so.
struct Exec {
  DeviceType device = DeviceType::kCpu;
  int threads = 1;
  void* stream = nullptr;
};

// Row-major matrix: element (r, c) is data[r * ld + c], ld >= cols. Does not own.
template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t ld = 0;

  MatrixView() = default;
  MatrixView(T* d, int64_t r, int64_t c) : data(d), rows(r), cols(c), ld(c) {}
  MatrixView(T* d, int64_t r, int64_t c, int64_t l) : data(d), rows(r), cols(c), ld(l) {}
  // A view to write through is also one to read through.
  template <class U>
  requires(!std::is_same_v<U, T> && std::is_same_v<const U, T>) MatrixView(MatrixView<U> m)
      : data(m.data), rows(m.rows), cols(m.cols), ld(m.ld) {}
  T* row(int64_t r) const {
    assert(r >= 0 && r < rows);
    return data + r * ld;
  }
};

// Jagged rows as torchrec names them: row r holds values[offsets[r] .. offsets[r + 1]);
// offsets has rows + 1 entries, the first 0, never decreasing. Does not own.
template <class T>
struct JaggedView {
  const T* values = nullptr;
  const int64_t* offsets = nullptr;
  int64_t rows = 0;
};

// True when a CUDA device can be used by this process (false in a build without CUDA).
bool cuda_available() noexcept;

}  // namespace hypertower
