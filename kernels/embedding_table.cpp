#include "kernels/embedding_table.h"

#include <string>

#include "kernels/cpu/row_codec.h"
#include "kernels/error.h"
#include "kernels/parallel.h"

namespace hypertower {
namespace {

constexpr int64_t kBlock = 256;  // rows

void check_shapes(const char* op, int64_t rows, int64_t cols, const ConstTable& table) {
  if (table.rows == rows && table.cols == cols &&
      table.stride >= row_bytes(table.format, table.cols)) {
    return;
  }
  throw Error(ErrorKind::kArgument,
              std::string(op) + ": expected a matrix and a table of one shape, got " +
                  std::to_string(rows) + " x " + std::to_string(cols) + " and " +
                  std::to_string(table.rows) + " x " + std::to_string(table.cols) + " with rows " +
                  std::to_string(table.stride) + " bytes apart.");
}

}  // namespace

const char* row_format_name(RowFormat format) {
  switch (format) {
    case RowFormat::kFloat32:
      return "float32";
    case RowFormat::kBfloat16:
      return "bfloat16";
    case RowFormat::kFloat16:
      return "float16";
    case RowFormat::kInt8:
      return "int8";
  }
  return "?";
}

void encode_rows(MatrixView<const float> from, Table to, int threads) {
  check_shapes("encode_rows", from.rows, from.cols, to);
  parallel_for(threads, from.rows, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t column = cpu::encode_row(from.row(r), to, r);
      if (column < 0) continue;
      throw Error(ErrorKind::kArgument, "encode_rows: expected finite numbers that fit " +
                                            std::string(row_format_name(to.format)) + ", got " +
                                            std::to_string(from.row(r)[column]) + " in row " +
                                            std::to_string(r) + ", column " +
                                            std::to_string(column) + ".");
    }
  });
}

void decode_rows(ConstTable from, MatrixView<float> to, int threads) {
  check_shapes("decode_rows", to.rows, to.cols, from);
  parallel_for(threads, to.rows, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) cpu::decode_row(from, r, to.row(r));
  });
}

}  // namespace hypertower
