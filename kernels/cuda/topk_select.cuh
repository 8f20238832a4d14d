// The best keys of each row: a radix select over lists of keys in device memory, and the final
// sort. A block per row, any k. Part of topk.cu.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/topk_rows.cuh"
#include "kernels/topk_key.h"

namespace hypertower::cuda {

inline constexpr int kSelectThreads = 256;  // one per bin of an 8-bit digit
inline constexpr int kAtOnce = 4;           // keys that a thread reads before it looks at them

// The kept keys of all rows, unordered.
struct BestKeys {
  uint64_t* keys;  // [B, stride]
  int64_t* count;  // [B]
  int64_t stride;  // k rounded up to a power of two, for the sort
};

// The keys of one row, old and new, as one list.
struct RowKeys {
  const uint64_t* kept;
  int64_t num_kept;
  const uint64_t* candidates;
  int64_t size;

  __device__ uint64_t operator[](int64_t i) const {
    return i < num_kept ? kept[i] : candidates[i - num_kept];
  }

  // All threads of the block share the keys, each calls use(key) for its own.
  template <class Use>
  __device__ __forceinline__ void for_each(const Use& use) const {
    for (int64_t begin = threadIdx.x; begin < size; begin += kAtOnce * kSelectThreads) {
      uint64_t key[kAtOnce];
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        key[u] = (*this)[min(begin + u * kSelectThreads, size - 1)];
      }
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        if (begin + u * kSelectThreads >= size) break;
        use(key[u]);
      }
    }
  }
};

// A value that exactly `k` of the (distinct) keys reach. REQUIRES: 1 <= k <= keys.size. Fixes the
// answer 8 bits at a time, from the top: counts the keys that share the bits fixed so far by their
// next digit and finds the digit of the k-th largest; stops when all keys below it are wanted.
__device__ inline uint64_t select_threshold(const RowKeys& keys, int64_t k) {
  SHARED(unsigned, histogram, [kSelectThreads]);
  SHARED(int64_t, scan, [33]);
  SHARED(int64_t, wanted_in_digit, );
  SHARED(unsigned, digit_of_kth, );
  SHARED(bool, done, );
  uint64_t prefix = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    histogram[threadIdx.x] = 0;
    __syncthreads();
    keys.for_each([&](uint64_t key) {
      if (shift == 56 || key >> (shift + 8) == prefix >> (shift + 8)) {
        atomicAdd(&histogram[key >> shift & 255], 1U);
      }
    });
    __syncthreads();
    // Thread t looks at digit 255 - t: `above` keys have a larger one.
    const unsigned digit = kSelectThreads - 1 - threadIdx.x;
    const int64_t count = histogram[digit];
    int64_t total;
    const int64_t through = block_inclusive_sum<kSelectThreads>(count, scan, &total);
    const int64_t above = through - count;
    if (above < k && k <= through) {
      digit_of_kth = digit;
      wanted_in_digit = k - above;
      done = k == through;
    }
    __syncthreads();
    prefix |= static_cast<uint64_t>(digit_of_kth) << shift;
    k = wanted_in_digit;
    if (done) break;
  }
  return prefix;
}

// Moves the keys that `wanted` to the front of keys[to...), in any order, reading keys[from, from +
// count), and returns the end of what was written. REQUIRES: to <= from. In place: what a step of
// the block writes lies before what later steps read. All threads of the block call; they see the
// result.
template <class Wanted>
__device__ inline int64_t compact(uint64_t* keys, int64_t to, int64_t from, int64_t count,
                                  const Wanted& wanted) {
  SHARED(unsigned, written, );
  if (threadIdx.x == 0) written = 0;
  for (int64_t begin = 0; begin < count; begin += kAtOnce * kSelectThreads) {
    uint64_t key[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      key[u] = keys[from + min(begin + u * kSelectThreads + threadIdx.x, count - 1)];
    }
    __syncthreads();
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const bool real = begin + u * kSelectThreads + threadIdx.x < count;
      if (real && wanted(key[u])) keys[to + atomicAdd(&written, 1U)] = key[u];
    }
  }
  __syncthreads();
  to += written;
  __syncthreads();
  return to;
}

// Keeps the best `keep` of keys[0, count) in place, count > keep. Returns the least of them.
__device__ inline uint64_t keep_best(uint64_t* keys, int64_t count, int64_t keep) {
  const uint64_t threshold = select_threshold({keys, count, nullptr, count}, keep);
  compact(keys, 0, 0, count, [&](uint64_t key) { return key >= threshold; });
  return threshold;
}

// The best `keep` of `keys` to `to`, which is other memory, in any order. Returns the least of
// them, or 0 when there were not more than `keep`. All threads of the block call; they see the
// result.
__device__ inline uint64_t copy_best(const RowKeys& keys, int64_t keep, uint64_t* to) {
  SHARED(unsigned, written, );
  uint64_t threshold = 0;
  if (keys.size > keep) threshold = select_threshold(keys, keep);
  if (threadIdx.x == 0) written = 0;
  __syncthreads();
  keys.for_each([&](uint64_t key) {
    if (key >= threshold) to[atomicAdd(&written, 1U)] = key;
  });
  __syncthreads();
  return threshold;
}

// Block per row: the best `keep` of `from` and the candidates go to `to`; closes the gate to what
// can no longer enter and empties the candidates.
__global__ void __launch_bounds__(kSelectThreads)
    topk_select_kernel(Rows rows, BestKeys from, BestKeys to, int64_t keep) {
  const int64_t row = blockIdx.x;
  const RowKeys keys{from.keys + row * from.stride, from.count[row],
                     rows.candidates + row * rows.stride,
                     from.count[row] + static_cast<int64_t>(rows.hits[row])};
  const uint64_t threshold = copy_best(keys, keep, to.keys + row * to.stride);
  if (threadIdx.x != 0) return;
  to.count[row] = min(keys.size, keep);
  rows.hits[row] = 0;
  if (threshold > rows.gate[row]) rows.gate[row] = threshold;
}

// Block per row: bitonic sort of the kept keys, best first, and the row of the result.
__global__ void __launch_bounds__(kSelectThreads) topk_sort_kernel(BestKeys best, TopKOutput out) {
  const int64_t row = blockIdx.x;
  uint64_t* keys = best.keys + row * best.stride;
  const int64_t count = best.count[row];
  for (int64_t i = count + threadIdx.x; i < best.stride; i += kSelectThreads) {
    keys[i] = topk_key::kNone;
  }
  __syncthreads();
  for (int64_t run = 2; run <= best.stride; run *= 2) {
    for (int64_t step = run / 2; step > 0; step /= 2) {
      for (int64_t i = threadIdx.x; i < best.stride / 2; i += kSelectThreads) {
        const int64_t low = 2 * i - (i & (step - 1));
        const uint64_t a = keys[low];
        const uint64_t b = keys[low + step];
        const bool descending = (low & run) == 0;
        if ((a < b) == descending) {
          keys[low] = b;
          keys[low + step] = a;
        }
      }
      __syncthreads();
    }
  }
  int64_t* ids = out.ids.data + row * out.ids.ld;
  float* scores = out.scores.data + row * out.scores.ld;
  for (int64_t i = threadIdx.x; i < out.ids.cols; i += kSelectThreads) {
    ids[i] = i < count ? topk_key::id(keys[i]) : -1;
    scores[i] = i < count ? topk_key::score(keys[i]) : -INFINITY;
  }
  if (threadIdx.x == 0) out.count[row] = static_cast<int32_t>(count);
}

}  // namespace hypertower::cuda
