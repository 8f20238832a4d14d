// Exact top-K on the device. The items go by in chunks: a chunk's canonical scores that reach their
// row's gate become candidates (topk_score.cuh), then each row keeps its best k and closes its gate
// (topk_select.cuh). A chunk is as large as all chunks before it together, up to the scratch
// memory, so the first chunks set the gates and later ones add few candidates. Excluded and
// adjusted items are left out of the chunks; the adjusted ones follow as candidates of their own.
// Memory: B x (D + 2 k + chunk) numbers of 8 bytes. Nothing here depends on the order in which
// candidates arrive, because keys are distinct and the last step sorts them.
#include "kernels/cuda/topk.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"
#include "kernels/cuda/topk_score.cuh"
#include "kernels/cuda/topk_select.cuh"
#include "kernels/topk_check.h"

namespace hypertower::cuda {
namespace {

constexpr int kRowThreads = 128;
constexpr int64_t kMaxChunk = int64_t{65535} * kScoreThreads;  // what grids of one call can cover

// Block per row: the query in double, an open gate, no keys. A non-finite query gets a closed gate.
__global__ void __launch_bounds__(kRowThreads)
    topk_prepare_kernel(MatrixView<const float> from, double* to, RowState rows, int64_t* kept,
                        RowStatus* status) {
  SHARED(int, scratch, [33]);
  const int64_t row = blockIdx.x;
  int bad = 0;
  for (int64_t j = threadIdx.x; j < rows.padded_dim; j += kRowThreads) {
    const float x = j < from.cols ? from.data[row * from.ld + j] : 0.0F;
    bad += isfinite(x) ? 0 : 1;
    to[row * rows.padded_dim + j] = x;
  }
  bad = block_reduce_sum<kRowThreads>(bad, scratch);
  if (threadIdx.x == 0) {
    rows.gate[row] = bad == 0 ? 0 : ~uint64_t{0};
    rows.pending[row] = 0;
    kept[row] = 0;
    status[row] = bad == 0 ? RowStatus::kOk : RowStatus::kNonFiniteQuery;
  }
}

// Block per row: sets *bad when topk_check::row_values would throw.
__global__ void __launch_bounds__(kRowThreads) topk_check_kernel(TopKInput in, unsigned* bad) {
  const int64_t row = blockIdx.x;
  bool wrong = false;
  if (in.mask_of_row != nullptr) {
    const int mask = in.mask_of_row[row];
    wrong = mask < -1 || mask >= (in.masks == nullptr ? 0 : in.num_masks);
  }
  const auto outside = [&](int64_t id) { return id < 0 || id >= in.items.rows; };
  if (in.exclude.offsets != nullptr) {
    for (int64_t i = in.exclude.offsets[row] + threadIdx.x; i < in.exclude.offsets[row + 1];
         i += kRowThreads) {
      wrong = wrong || outside(in.exclude.values[i]);
    }
  }
  if (in.adjust.offsets != nullptr) {
    for (int64_t i = in.adjust.offsets[row] + threadIdx.x; i < in.adjust.offsets[row + 1];
         i += kRowThreads) {
      wrong = wrong || outside(in.adjust.values[i]) || !(in.adjust_delta[i] < INFINITY);
    }
  }
  if (wrong) atomicOr(bad, 1U);
}

// Block per row: the row's part of the unsorted list.
__global__ void __launch_bounds__(kRowThreads)
    topk_list_kernel(TopKInput in, ListedItems listed, uint64_t* keys, uint32_t* delta_bits) {
  const int64_t row = blockIdx.x;
  const uint64_t row_bits = static_cast<uint64_t>(row) << 32;
  int64_t to = listed.begin(row);
  if (in.exclude.offsets != nullptr) {
    const int64_t begin = in.exclude.offsets[row];
    const int64_t count = in.exclude.offsets[row + 1] - begin;
    for (int64_t i = threadIdx.x; i < count; i += kRowThreads) {
      keys[to + i] = row_bits | static_cast<uint64_t>(in.exclude.values[begin + i]);
      delta_bits[to + i] = __float_as_uint(-INFINITY);
    }
    to += count;
  }
  if (in.adjust.offsets != nullptr) {
    const int64_t begin = in.adjust.offsets[row];
    const int64_t count = in.adjust.offsets[row + 1] - begin;
    for (int64_t i = threadIdx.x; i < count; i += kRowThreads) {
      keys[to + i] = row_bits | static_cast<uint64_t>(in.adjust.values[begin + i]);
      delta_bits[to + i] = __float_as_uint(in.adjust_delta[begin + i]);
    }
  }
}

std::vector<int64_t> offsets_to_host(const JaggedView<int64_t>& list, cudaStream_t stream) {
  return list.offsets == nullptr ? std::vector<int64_t>{}
                                 : to_host(list.offsets, list.rows + 1, stream);
}

// Throws what topk_check says of the lists and masks. Synchronises. Returns the host's copy of the
// offsets.
struct Offsets {
  std::vector<int64_t> exclude, adjust;

  int64_t at(int64_t row) const {
    return (exclude.empty() ? 0 : exclude[row]) + (adjust.empty() ? 0 : adjust[row]);
  }
};

Offsets check_values(const TopKInput& in, cudaStream_t stream) {
  Offsets offsets{offsets_to_host(in.exclude, stream), offsets_to_host(in.adjust, stream)};
  TopKInput host = in;
  host.exclude.offsets = offsets.exclude.empty() ? nullptr : offsets.exclude.data();
  host.adjust.offsets = offsets.adjust.empty() ? nullptr : offsets.adjust.data();
  topk_check::offsets(host);
  const int64_t batch = in.queries.rows;
  if (offsets.at(batch) == 0 && in.mask_of_row == nullptr) return offsets;

  const Scratch<unsigned> bad(1, stream);
  check(cudaMemsetAsync(bad.data(), 0, sizeof(unsigned), stream), "topk check");
  check(launch(topk_check_kernel,
               {.grid = static_cast<unsigned>(batch),
                .block = kRowThreads,
                .stream = stream,
                .name = "topk_check"},
               in, bad.data()),
        "topk check");
  if (to_host(bad.data(), 1, stream)[0] == 0) return offsets;

  // Something is wrong: let the host find it and say so.
  const auto fetch = [&](const auto* values, const std::vector<int64_t>& of) {
    return to_host(values, of.empty() ? 0 : of.back(), stream);
  };
  const auto exclude = fetch(in.exclude.values, offsets.exclude);
  const auto adjust = fetch(in.adjust.values, offsets.adjust);
  const auto deltas = fetch(in.adjust_delta, offsets.adjust);
  const auto masks = to_host(in.mask_of_row, in.mask_of_row == nullptr ? 0 : batch, stream);
  host.exclude.values = exclude.data();
  host.adjust.values = adjust.data();
  host.adjust_delta = deltas.data();
  host.mask_of_row = masks.empty() ? nullptr : masks.data();
  for (int64_t row = 0; row < batch; ++row) topk_check::row_values(host, row);
  return offsets;
}

// The lists of all rows, sorted; owns the memory behind ListedItems.
class SortedLists {
 public:
  SortedLists(const TopKInput& in, const Offsets& offsets, cudaStream_t stream)
      : size_(offsets.at(in.queries.rows)), keys_(size_, stream), delta_bits_(size_, stream) {
    if (size_ == 0) return;
    const int64_t batch = in.queries.rows;
    const Scratch<uint64_t> keys(size_, stream);
    const Scratch<uint32_t> delta_bits(size_, stream);
    listed_ = {nullptr, nullptr, in.exclude.offsets, in.adjust.offsets};
    check(launch(topk_list_kernel,
                 {.grid = static_cast<unsigned>(batch),
                  .block = kRowThreads,
                  .stream = stream,
                  .name = "topk_list"},
                 in, listed_, keys.data(), delta_bits.data()),
          "topk lists");
    const int bits = 32 + std::max(1, static_cast<int>(std::bit_width<uint64_t>(batch - 1)));
    const size_t bytes = sort_pairs_workspace_bytes<uint64_t>(size_, 0, bits);
    const Scratch<unsigned char> workspace(bytes, stream);
    sort_pairs<uint64_t>(workspace.data(), bytes, keys.data(), keys_.data(), delta_bits.data(),
                         delta_bits_.data(), size_, 0, bits, stream);
    listed_.keys = keys_.data();
    listed_.delta_bits = delta_bits_.data();
    for (int64_t r = 0; r < batch; ++r) {
      longest_ = std::max(longest_, offsets.at(r + 1) - offsets.at(r));
    }
  }

  const ListedItems& view() const { return listed_; }
  int64_t longest() const { return longest_; }  // entries of the longest row

 private:
  int64_t size_;
  Scratch<uint64_t> keys_;
  Scratch<uint32_t> delta_bits_;
  ListedItems listed_{};
  int64_t longest_ = 0;
};

bool rows_are_aligned(MatrixView<const float> m) {
  return m.ld % 4 == 0 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0;
}

}  // namespace

void topk(const TopKInput& in, const TopKOutput& out, void* stream_handle, int64_t scratch_keys) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  const int64_t batch = in.queries.rows;
  const int64_t items = in.items.rows;
  if (batch == 0) return;
  const Offsets offsets = check_values(in, stream);
  const SortedLists lists(in, offsets, stream);

  const int64_t keep = std::min(in.k, items);
  const int64_t least = std::max<int64_t>(256, 2 * keep);
  const int64_t capacity =
      std::max<int64_t>(1, std::min({items, kMaxChunk, std::max(least, scratch_keys / batch)}));
  const int64_t padded_dim = ceil_div<int64_t>(in.items.cols, 8) * 8;
  const int64_t stride = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(keep)));
  const Scratch<double> queries(batch * padded_dim, stream);
  const Scratch<uint64_t> gates(batch, stream);
  const Scratch<unsigned> pending(batch, stream);
  const Scratch<uint64_t> candidates(batch * capacity, stream);
  const Scratch<uint64_t> keys_a(batch * stride, stream), keys_b(batch * stride, stream);
  const Scratch<int64_t> count_a(batch, stream), count_b(batch, stream);
  const RowState rows{queries.data(), padded_dim,        gates.data(),
                      pending.data(), candidates.data(), capacity};
  BestKeys best{keys_a.data(), count_a.data(), stride};
  BestKeys next{keys_b.data(), count_b.data(), stride};

  const dim3 row_grid(static_cast<unsigned>(batch));
  const auto keep_best = [&] {
    check(
        launch(topk_select_kernel,
               {.grid = row_grid, .block = kSelectThreads, .stream = stream, .name = "topk_select"},
               rows, best, next, keep),
        "topk select");
    std::swap(best, next);
  };

  check(launch(topk_prepare_kernel,
               {.grid = row_grid, .block = kRowThreads, .stream = stream, .name = "topk_prepare"},
               in.queries, queries.data(), rows, best.count, out.status),
        "topk prepare");
  const auto score =
      rows_are_aligned(in.items) ? topk_score_kernel<true> : topk_score_kernel<false>;
  for (int64_t first = 0; first < items;) {
    const int64_t end = std::min({items, first + std::max(least, first), first + capacity});
    const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(batch, kRowGroup)),
                    static_cast<unsigned>(ceil_div<int64_t>(end - first, kItemsPerBlock)));
    check(launch(score,
                 {.grid = grid, .block = kScoreThreads, .stream = stream, .name = "topk_score"}, in,
                 rows, lists.view(), first, end),
          "topk score");
    keep_best();
    first = end;
  }
  for (int64_t skip = 0; skip < lists.longest(); skip += capacity) {
    const int64_t entries = std::min(capacity, lists.longest() - skip);
    const dim3 grid(row_grid.x, static_cast<unsigned>(ceil_div<int64_t>(entries, kScoreThreads)));
    check(launch(topk_adjusted_kernel,
                 {.grid = grid, .block = kScoreThreads, .stream = stream, .name = "topk_adjusted"},
                 in, rows, lists.view(), skip),
          "topk adjusted");
    keep_best();
  }
  check(launch(topk_sort_kernel,
               {.grid = row_grid, .block = kSelectThreads, .stream = stream, .name = "topk_sort"},
               best, out),
        "topk sort");
  check(cudaStreamSynchronize(stream), "topk");
}

void score_pairs(MatrixView<const float> queries, MatrixView<const float> items,
                 MatrixView<const int64_t> ids, MatrixView<float> out, void* stream_handle) {
  const auto stream = static_cast<cudaStream_t>(stream_handle);
  if (ids.rows * ids.cols == 0) return;
  const Scratch<unsigned> bad(1, stream);
  check(cudaMemsetAsync(bad.data(), 0, sizeof(unsigned), stream), "score_pairs");
  const auto blocks = static_cast<unsigned>(ceil_div<int64_t>(ids.rows * ids.cols, kScoreThreads));
  check(launch(score_pairs_kernel,
               {.grid = blocks, .block = kScoreThreads, .stream = stream, .name = "score_pairs"},
               queries, items, ids, out, bad.data()),
        "score_pairs");
  if (to_host(bad.data(), 1, stream)[0] == 0) return;
  for (int64_t r = 0; r < ids.rows; ++r) {
    const std::vector<int64_t> row = to_host(ids.data + r * ids.ld, ids.cols, stream);
    topk_check::pair_ids(r, row.data(), ids.cols, items.rows);
  }
}

}  // namespace hypertower::cuda
