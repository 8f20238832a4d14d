// Exact batched inner-product top-K with masks, exclusions and adjustments.
//
// Result of row b: the k allowed items of largest score, ordered by (score descending, item id
// ascending). The score is canonical: products of two floats are exact in double; they are added in
// double in 8 interleaved lanes (lane l sums j = l, l + 8, ...), the lanes by the fixed tree
// ((0+4)+(2+6)) + ((1+5)+(3+7)), and the sum is rounded once to float; -0 becomes +0. So every
// device, thread count, batch size and split of the items gives the same bits.
//
// An item is allowed when its mask bit is set (no mask: all) and it is not excluded. An adjusted
// item scores canonical + delta, rounded once; delta = -inf excludes it. An item that is listed
// more than once in `adjust` of one row gets the sum of its deltas, added in double in list order.
//
// Fewer than k allowed: count[b] < k and the tail is id -1, score -inf. k > N is legal, k >= 1.
// A non-finite query row gives status kNonFiniteQuery and count 0. Items must be finite
// (REQUIRES; `first_non_finite_row` of kernels/finite_rows.h checks a matrix once at build). A
// score beyond the range of a float is infinite and ranks as such.
//
// Thread-safe: calls share nothing.
// Memory: O(B * (D + parts * min(k, N))), where parts is the number of item ranges scanned at once
// (at most `threads` on the CPU), and on the CPU the int8 form of some 100,000 items; never B x N.
// Many searches over the same items: prepare them once (kernels/topk_index.h).
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace hypertower {

enum class RowStatus : int32_t { kOk = 0, kNonFiniteQuery = 1 };

struct TopKInput {
  MatrixView<const float> queries = {};  // [B, D]
  MatrixView<const float> items = {};    // [N, D]
  int64_t k = 10;

  // Bit sets over items: bit i of word i / 64 set = allowed. `masks` is [M, mask_words] with
  // mask_words >= ceil(N / 64). Row b uses mask `mask_of_row[b]`, -1 = no mask; with
  // mask_of_row == nullptr every row uses mask 0.
  const uint64_t* masks = nullptr;
  int64_t num_masks = 0;
  int64_t mask_words = 0;
  const int32_t* mask_of_row = nullptr;

  // Item ids per row, in any order, repeats allowed; null offsets: none.
  JaggedView<int64_t> exclude = {};
  JaggedView<int64_t> adjust = {};
  const float* adjust_delta = nullptr;  // one per adjust.values; finite or -inf
};

struct TopKOutput {
  MatrixView<int64_t> ids;      // [B, k]
  MatrixView<float> scores;     // [B, k]
  int32_t* count = nullptr;     // [B]
  RowStatus* status = nullptr;  // [B]
};

// Errors (ErrorKind::kArgument): k < 1, shapes that do not fit, N > 2^32, an id outside [0, N) in
// exclude or adjust (names row and position), a NaN or +inf delta, a mask_of_row without its mask,
// broken offsets. On CUDA the value checks run on the device
// and are reported through this call, which synchronises the stream at its end, and where lists or
// mask_of_row must be checked also before it writes.
void topk(const TopKInput& in, const TopKOutput& out, const Exec& exec);

// The canonical score of one pair (see above); host memory.
float canonical_score(const float* a, const float* b, int64_t dim);

// Canonical scores of query b with items ids[b, 0..m): out [B, m]; an id of -1 gives -inf. Errors
// and synchronisation as above.
void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, const Exec& exec);

}  // namespace hypertower
