#include "kernels/cuda/topk_lists.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/sort.h"
#include "kernels/topk_check.h"

namespace hypertower::cuda {
namespace {

constexpr int kRowThreads = 128;

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

}  // namespace

ListOffsets check_lists(const TopKInput& in, cudaStream_t stream) {
  ListOffsets offsets{offsets_to_host(in.exclude, stream), offsets_to_host(in.adjust, stream)};
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

SortedLists::SortedLists(const TopKInput& in, const ListOffsets& offsets, cudaStream_t stream)
    : size_(offsets.at(in.queries.rows)), keys_(size_, stream), delta_bits_(size_, stream) {
  if (size_ == 0) return;
  const int64_t batch = in.queries.rows;
  const Scratch<uint64_t> keys(size_, stream);
  const Scratch<uint32_t> delta_bits(size_, stream);
  listed_ = {nullptr, nullptr, in.exclude.offsets, in.adjust.offsets, 0};
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

}  // namespace hypertower::cuda
