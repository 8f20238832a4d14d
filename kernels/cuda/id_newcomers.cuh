// Newcomers of a batch: the ids that have no rows, each once, in order of their first positions.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"

namespace hypertower::cuda::ids {

constexpr int kThreads = 256;

__device__ __forceinline__ int64_t thread_index() {
  return int64_t{blockIdx.x} * kThreads + threadIdx.x;
}

// As kernels see them.
struct Newcomers {
  int64_t* ids;
  int64_t* times;
  int64_t* rows;  // -1: none yet
  int64_t* evicted_id;
  uint8_t* evicts;
  uint8_t* waits;  // not admitted
  int64_t count;
};

template <class... P, class... A>
void run(void (*kernel)(P...), const char* name, int64_t threads, cudaStream_t stream,
         A&&... arguments) {
  check(launch(kernel,
               {.grid = static_cast<unsigned>(ceil_div<int64_t>(threads, kThreads)),
                .block = kThreads,
                .stream = stream,
                .name = name},
               std::forward<A>(arguments)...),
        "id table");
}

inline void sum(int64_t* values, int64_t n, cudaStream_t stream) {
  const size_t bytes = exclusive_scan_workspace_bytes(n);
  const Scratch<char> workspace(bytes, stream);
  exclusive_scan(workspace.data(), bytes, values, values, n, stream);
}

// Keys with their places, sorted; `fill` writes both.
template <class Key>
struct Sorted {
  Scratch<Key> keys;
  Scratch<uint32_t> order;

  template <class Fill>
  Sorted(int64_t n, int bits, cudaStream_t stream, const Fill& fill)
      : keys(n, stream), order(n, stream) {
    const Scratch<Key> keys_in(n, stream);
    const Scratch<uint32_t> order_in(n, stream);
    fill(keys_in.data(), order_in.data());
    const size_t bytes = sort_pairs_workspace_bytes<Key>(n, 0, bits);
    const Scratch<char> workspace(bytes, stream);
    sort_pairs<Key>(workspace.data(), bytes, keys_in.data(), keys.data(), order_in.data(),
                    order.data(), n, 0, bits, stream);
  }
};

// Their memory, freed in the order of the stream.
class NewcomerMemory {
 public:
  NewcomerMemory(int64_t n, cudaStream_t s)
      : ids_(n, s), times_(n, s), rows_(n, s), evicted_id_(n, s), evicts_(n, s), waits_(n, s) {}

  Newcomers view(int64_t count) const {
    return {ids_.data(),    times_.data(), rows_.data(), evicted_id_.data(),
            evicts_.data(), waits_.data(), count};
  }

 private:
  Scratch<int64_t> ids_, times_, rows_, evicted_id_;
  Scratch<uint8_t> evicts_, waits_;
};

// Equal ids brought together by a sort, in order of their first positions by a sum over those.
class NewcomerRuns {
 public:
  // place [n + 1]: how many ids have no row before each position; place[n] = missing, which is not
  // 0. Synchronises.
  NewcomerRuns(const int64_t* ids, int64_t n, const int64_t* rows, const int64_t* place,
               int64_t missing, cudaStream_t stream);

  int64_t distinct() const { return distinct_; }
  // Of `distinct` newcomers, none of which has a row yet.
  void write(const Newcomers& fresh) const;

 private:
  cudaStream_t stream_;
  Sorted<uint64_t> sorted_;
  Scratch<int64_t> in_run_, first_, start_;
  int64_t distinct_ = 0;
};

}  // namespace hypertower::cuda::ids
