#include "kernels/topk_check.h"

#include <limits>
#include <string>

#include "kernels/error.h"
#include "kernels/topk_key.h"

namespace hypertower::topk_check {
namespace {

std::string text(int64_t n) {
  return std::to_string(n);
}

std::string shape(int64_t rows, int64_t cols) {
  return std::string("[").append(text(rows)).append(", ").append(text(cols)).append("]");
}

std::string place(int64_t row, int64_t position) {
  return "row " + text(row) + ", position " + text(position);
}

[[noreturn]] void fail(const std::string& sentence, const char* field) {
  throw Error(ErrorKind::kArgument, sentence, field);
}

template <class T>
void output_shape(const char* op, const char* field, MatrixView<T> out, int64_t rows,
                  int64_t cols) {
  if (out.rows == rows && out.cols == cols) return;
  fail(std::string(op) + ": expected " + field + " of shape " + shape(rows, cols) + ", got " +
           shape(out.rows, out.cols) + "; allocate one entry per row and rank.",
       field);
}

void vectors(const char* op, MatrixView<const float> queries, MatrixView<const float> items) {
  if (queries.cols != items.cols) {
    fail(std::string(op) + ": expected items of " + text(queries.cols) +
             " columns, as the queries have, got " + text(items.cols) +
             "; use queries and items of one model.",
         "items");
  }
  if (items.rows > topk_key::kMaxItems) {
    fail(std::string(op) + ": expected at most " + text(topk_key::kMaxItems) + " items, got " +
             text(items.rows) + "; split them and merge the results.",
         "items");
  }
}

void list_shape(const char* list, const JaggedView<int64_t>& view, int64_t rows) {
  if (view.offsets == nullptr || view.rows == rows) return;
  fail(std::string("topk: expected ") + list + " with " + text(rows) +
           " rows, one per query, got " + text(view.rows) + "; use an empty row for none.",
       list);
}

void list_offsets(const char* list, const JaggedView<int64_t>& view) {
  if (view.offsets == nullptr) return;
  if (view.offsets[0] != 0) {
    fail(std::string("topk: expected the offsets of ") + list + " to start at 0, got " +
             text(view.offsets[0]) + "; pass values and offsets of the same rows.",
         list);
  }
  for (int64_t r = 0; r < view.rows; ++r) {
    if (view.offsets[r] <= view.offsets[r + 1]) continue;
    fail(std::string("topk: expected the offsets of ") + list + " never to decrease, got " +
             text(view.offsets[r]) + " and then " + text(view.offsets[r + 1]) + " at row " +
             text(r) + "; offsets are running totals of the row lengths.",
         list);
  }
}

void list_ids(const char* list, const JaggedView<int64_t>& view, int64_t row, int64_t num_items) {
  if (view.offsets == nullptr) return;
  for (int64_t i = view.offsets[row]; i < view.offsets[row + 1]; ++i) {
    const int64_t id = view.values[i];
    if (id >= 0 && id < num_items) continue;
    fail(std::string("topk: expected item ids in [0, ") + text(num_items) + ") in " + list +
             ", got " + text(id) + " at " + place(row, i - view.offsets[row]) +
             "; leave out items that the index does not hold.",
         list);
  }
}

void deltas(const JaggedView<int64_t>& adjust, const float* delta, int64_t row) {
  if (adjust.offsets == nullptr) return;
  for (int64_t i = adjust.offsets[row]; i < adjust.offsets[row + 1]; ++i) {
    if (delta[i] < std::numeric_limits<float>::infinity()) continue;  // a NaN does not pass
    fail("topk: expected adjust_delta finite or -inf, got " +
             std::string(delta[i] > 0 ? "inf" : "nan") + " at " +
             place(row, i - adjust.offsets[row]) +
             "; -inf excludes an item, a large finite delta puts it first.",
         "adjust_delta");
  }
}

void mask_index(int64_t row, int32_t mask, int64_t num_masks) {
  if (mask >= -1 && mask < num_masks) return;
  fail("topk: expected mask_of_row in [-1, " + text(num_masks) + "), got " + text(mask) +
           " at row " + text(row) + "; -1 means no mask.",
       "mask_of_row");
}

}  // namespace

void num_items(int64_t count) {
  if (count <= topk_key::kMaxItems) return;
  fail("index: expected at most " + text(topk_key::kMaxItems) + " items, got " + text(count) +
           "; split them and merge the results.",
       "items");
}

void finite_items(int64_t bad_row) {
  if (bad_row < 0) return;
  fail("index: expected finite numbers, got NaN or infinity in row " + text(bad_row) +
           " of the items; leave that item out.",
       "items");
}

void shapes(const TopKInput& in, const TopKOutput& out) {
  const int64_t batch = in.queries.rows;
  const int64_t num_items = in.items.rows;
  if (in.k < 1) {
    fail("topk: expected k >= 1, got " + text(in.k) + "; ask for at least one item per row.", "k");
  }
  vectors("topk", in.queries, in.items);
  output_shape("topk", "ids", out.ids, batch, in.k);
  output_shape("topk", "scores", out.scores, batch, in.k);
  if (batch > 0 && (out.count == nullptr || out.status == nullptr)) {
    const char* field = out.count == nullptr ? "count" : "status";
    fail(std::string("topk: expected ") + field + " with " + text(batch) +
             " entries, got null; allocate one entry per row.",
         field);
  }
  const int64_t words = (num_items + 63) / 64;
  if (in.masks != nullptr && in.mask_words < words) {
    fail("topk: expected mask_words >= " + text(words) + " for " + text(num_items) +
             " items, got " + text(in.mask_words) + "; a mask holds one bit per item.",
         "mask_words");
  }
  if (in.masks != nullptr && in.num_masks < 1) {
    fail("topk: expected num_masks >= 1 with masks given, got " + text(in.num_masks) +
             "; leave masks null to allow every item.",
         "num_masks");
  }
  list_shape("exclude", in.exclude, batch);
  list_shape("adjust", in.adjust, batch);
  if (in.adjust.offsets != nullptr && in.adjust.values != nullptr && in.adjust_delta == nullptr) {
    fail(
        "topk: expected adjust_delta with one delta per adjusted item, got null; pass it or leave "
        "adjust empty.",
        "adjust_delta");
  }
}

void pair_shapes(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out) {
  vectors("score_pairs", queries, items);
  if (ids.rows != queries.rows) {
    fail("score_pairs: expected ids with " + text(queries.rows) + " rows, one per query, got " +
             text(ids.rows) + "; pad short rows with -1.",
         "ids");
  }
  output_shape("score_pairs", "out", out, ids.rows, ids.cols);
}

void offsets(const TopKInput& in) {
  list_offsets("exclude", in.exclude);
  list_offsets("adjust", in.adjust);
}

void row_values(const TopKInput& in, int64_t row) {
  if (in.mask_of_row != nullptr) {
    mask_index(row, in.mask_of_row[row], in.masks == nullptr ? 0 : in.num_masks);
  }
  list_ids("exclude", in.exclude, row, in.items.rows);
  list_ids("adjust", in.adjust, row, in.items.rows);
  deltas(in.adjust, in.adjust_delta, row);
}

void pair_ids(int64_t row, const int64_t* ids, int64_t count, int64_t num_items) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] >= -1 && ids[i] < num_items) continue;
    fail("score_pairs: expected item ids in [-1, " + text(num_items) + "), got " + text(ids[i]) +
             " at " + place(row, i) + "; -1 marks an empty place.",
         "ids");
  }
}

}  // namespace hypertower::topk_check
