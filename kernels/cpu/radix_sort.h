// Stable least-significant-digit radix sort of 64-bit keys by some of their bits. The result is
// unique, so it cannot depend on the number of threads.
#pragma once

#include <cstdint>

namespace hypertower::cpu {

// Sorts keys[0, n) by bits [shift, shift + bits). `scratch` [n] is overwritten. Returns where the
// sorted keys are: `keys` or `scratch`. REQUIRES: threads >= 1, 0 <= bits, shift + bits <= 64.
uint64_t* radix_sort(uint64_t* keys, uint64_t* scratch, int64_t n, int shift, int bits,
                     int threads);

}  // namespace hypertower::cpu
