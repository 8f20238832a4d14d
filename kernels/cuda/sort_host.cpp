// The twin of sort_cub.cu for tests/cuemu: kernels of one thread, so that the emulator checks every
// access. Compiled only there.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sort.h"
#include "kernels/cuda/sort_check.h"

#include <algorithm>

namespace hypertower::cuda {
namespace {

template <class Key>
struct Pair {
  Key key;
  uint32_t value;
  int64_t place;  // makes the sort stable
};

template <class Key>
__global__ void sort_kernel(Pair<Key>* pairs, const Key* keys_in, Key* keys_out,
                            const uint32_t* values_in, uint32_t* values_out, int64_t n, Key mask) {
  for (int64_t i = 0; i < n; ++i) pairs[i] = {keys_in[i], values_in[i], i};
  std::sort(pairs, pairs + n, [mask](const Pair<Key>& a, const Pair<Key>& b) {
    const Key left = a.key & mask;
    const Key right = b.key & mask;
    return left != right ? left < right : a.place < b.place;
  });
  for (int64_t i = 0; i < n; ++i) {
    keys_out[i] = pairs[i].key;
    values_out[i] = pairs[i].value;
  }
}

__global__ void scan_kernel(const int64_t* in, int64_t* out, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t value = in[i];
    out[i] = sum;
    sum += value;
  }
}

}  // namespace

template <class Key>
size_t sort_pairs_workspace_bytes(int64_t n, int begin_bit, int end_bit) {
  check_sort<Key>("sort_pairs", n, begin_bit, end_bit);
  return std::max<size_t>(1, static_cast<size_t>(n) * sizeof(Pair<Key>));
}

template <class Key>
void sort_pairs(void* workspace, size_t workspace_bytes, const Key* keys_in, Key* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int begin_bit,
                int end_bit, void* stream) {
  check_workspace("sort_pairs", workspace, workspace_bytes,
                  sort_pairs_workspace_bytes<Key>(n, begin_bit, end_bit));
  if (n == 0) return;
  const Key below_end = static_cast<Key>(~Key{0}) >> (8 * sizeof(Key) - end_bit);
  const Key mask = below_end & static_cast<Key>(~Key{0} << begin_bit);
  check(
      launch(sort_kernel<Key>, {.stream = static_cast<cudaStream_t>(stream), .name = "sort_pairs"},
             static_cast<Pair<Key>*>(workspace), keys_in, keys_out, values_in, values_out, n, mask),
      "sort_pairs");
}

size_t exclusive_scan_workspace_bytes(int64_t n) {
  check_count("exclusive_scan", n);
  return 1;
}

void exclusive_scan(void* workspace, size_t workspace_bytes, const int64_t* in, int64_t* out,
                    int64_t n, void* stream) {
  check_workspace("exclusive_scan", workspace, workspace_bytes, exclusive_scan_workspace_bytes(n));
  if (n == 0) return;
  check(launch(scan_kernel, {.stream = static_cast<cudaStream_t>(stream), .name = "exclusive_scan"},
               in, out, n),
        "exclusive_scan");
}

template size_t sort_pairs_workspace_bytes<uint32_t>(int64_t, int, int);
template size_t sort_pairs_workspace_bytes<uint64_t>(int64_t, int, int);
template void sort_pairs<uint32_t>(void*, size_t, const uint32_t*, uint32_t*, const uint32_t*,
                                   uint32_t*, int64_t, int, int, void*);
template void sort_pairs<uint64_t>(void*, size_t, const uint64_t*, uint64_t*, const uint32_t*,
                                   uint32_t*, int64_t, int, int, void*);

}  // namespace hypertower::cuda
