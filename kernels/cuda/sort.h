// Device-wide sort and scan. sort_cub.cu calls CUB; sort_host.cpp is the twin for the emulator
// (tests/cuemu), and exactly one of the two is linked.
//
// Every function enqueues on `stream` (a cudaStream_t) and does not synchronise. The caller owns
// all memory, the workspace too: ask for its size with the same numbers, then run. A workspace may
// be reused by later work of the same stream. Deterministic. Thread-safe for distinct outputs.
// Errors: ErrorKind::kArgument for a bad bit range, a negative n, or a workspace that is too small.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hypertower::cuda {

// Key is uint32_t or uint64_t. Bits [begin_bit, end_bit) decide, 0 <= begin_bit < end_bit <= bits
// of Key; fewer bits cost less (a pass per 8).
template <class Key>
size_t sort_pairs_workspace_bytes(int64_t n, int begin_bit, int end_bit);

// Stable ascending sort of n (key, value) pairs; pairs of equal bits keep their order. Inputs and
// outputs are [n] in device memory and must not overlap; inputs stay as they are.
template <class Key>
void sort_pairs(void* workspace, size_t workspace_bytes, const Key* keys_in, Key* keys_out,
                const uint32_t* values_in, uint32_t* values_out, int64_t n, int begin_bit,
                int end_bit, void* stream);

size_t exclusive_scan_workspace_bytes(int64_t n);

// out[i] = in[0] + ... + in[i - 1], out[0] = 0, for n values. `in` may equal `out`. For the total,
// pass one more element than there are counts.
void exclusive_scan(void* workspace, size_t workspace_bytes, const int64_t* in, int64_t* out,
                    int64_t n, void* stream);

}  // namespace hypertower::cuda
