#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sort.h"
#include "kernels/cuda/sort_check.h"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace hypertower::cuda {
namespace {

// CUB asks for at least one byte, so that a null workspace can mean a query.
template <class Key>
cudaError_t radix_sort(void* workspace, size_t* bytes, const Key* keys_in, Key* keys_out,
                       const uint32_t* values_in, uint32_t* values_out, int64_t n, int begin_bit,
                       int end_bit, void* stream) {
  return cub::DeviceRadixSort::SortPairs(workspace, *bytes, keys_in, keys_out, values_in,
                                         values_out, n, begin_bit, end_bit,
                                         static_cast<cudaStream_t>(stream));
}

}  // namespace

template <class Key>
size_t sort_pairs_workspace_bytes(int64_t n, int begin_bit, int end_bit) {
  check_sort<Key>("sort_pairs", n, begin_bit, end_bit);
  size_t bytes = 0;
  check(radix_sort<Key>(nullptr, &bytes, nullptr, nullptr, nullptr, nullptr, n, begin_bit, end_bit,
                        nullptr),
        "sort_pairs_workspace_bytes");
  return bytes;
}

template <class Key>
void sort_pairs(void* workspace, size_t workspace_bytes, const Key* keys_in, Key* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int begin_bit,
                int end_bit, void* stream) {
  check_workspace("sort_pairs", workspace, workspace_bytes,
                  sort_pairs_workspace_bytes<Key>(n, begin_bit, end_bit));
  if (n == 0) return;
  check(radix_sort(workspace, &workspace_bytes, keys_in, keys_out, values_in, values_out, n,
                   begin_bit, end_bit, stream),
        "sort_pairs");
}

size_t exclusive_scan_workspace_bytes(int64_t n) {
  check_count("exclusive_scan", n);
  size_t bytes = 0;
  check(cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<const int64_t*>(nullptr),
                                      static_cast<int64_t*>(nullptr), n),
        "exclusive_scan_workspace_bytes");
  return bytes;
}

void exclusive_scan(void* workspace, size_t workspace_bytes, const int64_t* in, int64_t* out,
                    int64_t n, void* stream) {
  check_workspace("exclusive_scan", workspace, workspace_bytes, exclusive_scan_workspace_bytes(n));
  if (n == 0) return;
  check(cub::DeviceScan::ExclusiveSum(workspace, workspace_bytes, in, out, n,
                                      static_cast<cudaStream_t>(stream)),
        "exclusive_scan");
}

template size_t sort_pairs_workspace_bytes<uint32_t>(int64_t, int, int);
template size_t sort_pairs_workspace_bytes<uint64_t>(int64_t, int, int);
template void sort_pairs<uint32_t>(void*, size_t, const uint32_t*, uint32_t*, const uint32_t*,
                                   uint32_t*, int64_t, int, int, void*);
template void sort_pairs<uint64_t>(void*, size_t, const uint64_t*, uint64_t*, const uint32_t*,
                                   uint32_t*, int64_t, int, int, void*);

}  // namespace hypertower::cuda
