// Tables of an embedding, with rows in one of four number formats. A view of float32 rows is a
// table as it is; the others trade precision for memory and bandwidth.
//
//   format     row of D columns                          use
//   kFloat32   D floats                                  training and serving
//   kBfloat16  D values, the upper half of a float32     training with stochastic rounding, serving
//   kFloat16   D IEEE binary16 values, |w| <= 65504      the same
//   kInt8      D codes, then float32 scale and bias      serving: w = code * scale + bias
//
// int8 (row-wise asymmetric, as FBGEMM's 8-bit rows): bias = min of the row, scale = (max - min) /
// 255, code = round((w - bias) / scale), so |error| <= scale / 2 and rounding of the product. The
// two floats begin at the next multiple of 4 after the codes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/tensor.h"

namespace hypertower {

enum class RowFormat : uint8_t { kFloat32, kBfloat16, kFloat16, kInt8 };

// "float32", "bfloat16", "float16", "int8".
const char* row_format_name(RowFormat format);

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Where the scale of an int8 row is, in bytes from its start; the bias follows.
constexpr int64_t int8_scale_offset(int64_t cols) {
  return (cols + 3) / 4 * 4;
}

// Bytes of a row without padding.
constexpr int64_t row_bytes(RowFormat format, int64_t cols) {
  switch (format) {
    case RowFormat::kFloat32:
      return cols * 4;
    case RowFormat::kBfloat16:
    case RowFormat::kFloat16:
      return cols * 2;
    case RowFormat::kInt8:
      return int8_scale_offset(cols) + 8;
  }
  return 0;
}

// Rows and their stride are multiples of so many bytes.
constexpr int64_t row_alignment(RowFormat format) {
  return format == RowFormat::kBfloat16 || format == RowFormat::kFloat16 ? 2 : 4;
}

// Row r begins `stride` * r bytes after data; stride is at least row_bytes and a multiple of
// row_alignment, as is data; multiples of 16 make the fastest loads. Does not own.
template <class Void>
struct TableView {
  Void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  RowFormat format = RowFormat::kFloat32;

  using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;
  using Float = std::conditional_t<std::is_const_v<Void>, const float, float>;

  TableView() = default;
  TableView(Void* d, int64_t r, int64_t c, int64_t s, RowFormat f)
      : data(d), rows(r), cols(c), stride(s), format(f) {}
  // Float32 rows, their stride in floats as in MatrixView.
  TableView(Float* d, int64_t r, int64_t c, int64_t ld)
      : data(d), rows(r), cols(c), stride(ld * int64_t{sizeof(float)}) {}
  TableView(Float* d, int64_t r, int64_t c) : TableView(d, r, c, c) {}
  template <class T>
  requires(std::is_convertible_v<T*, Float*>) TableView(MatrixView<T> m)
      : TableView(m.data, m.rows, m.cols, m.ld) {}
  // A table to write is also one to read.
  template <class Other>
  requires(std::is_const_v<Void> && !std::is_const_v<Other>) TableView(TableView<Other> t)
      : data(t.data), rows(t.rows), cols(t.cols), stride(t.stride), format(t.format) {}

  Byte* row(int64_t r) const { return static_cast<Byte*>(data) + r * stride; }
};

using Table = TableView<void>;
using ConstTable = TableView<const void>;

// Host memory, parallel over rows. Both throw ErrorKind::kArgument where the shapes differ.
// encode_rows rounds to the nearest value of the format (ties to even) and throws, naming the row,
// where a number is not finite or too large for it; then `to` is in part written.
void encode_rows(MatrixView<const float> from, Table to, int threads);
void decode_rows(ConstTable from, MatrixView<float> to, int threads);

}  // namespace hypertower
