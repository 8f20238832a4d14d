// Twins of the matrix wrappers of kernels/cuda/ptx.cuh: warp collectives over PTX's fragments. With
// g = lane / 4 and t = lane % 4, a register holds the 16-bit values of columns 2t and 2t + 1.
#pragma once

#include "kernels/cuda/ptx_types.h"
#include "tests/cuemu/device.h"
#include "tests/cuemu/intrinsics.h"
#include "tests/cuemu/numeric.h"

#include <cstring>

namespace cuemu {

inline float half_of_pair(uint32_t pair, int which) {
  return bfloat16_bits_to_float(static_cast<uint16_t>(which == 0 ? pair : pair >> 16));
}

struct MmaOperands {
  uint32_t a[4], b[2];
};

}  // namespace cuemu

namespace hypertower::ptx {

// a: registers 0..3 hold (row g, k 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); b: (k 2t, column
// g), (2t + 8, g); d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              const float (&c)[4], CUEMU_HERE) {
  cuemu::MmaOperands own;
  std::memcpy(own.a, a, sizeof a);
  std::memcpy(own.b, b, sizeof b);
  const auto all = cuemu::all_gather(~0U, own, {"mma.sync", file, line});
  const int g = static_cast<int>(cuemu::lane_id()) / 4;
  const int t = static_cast<int>(cuemu::lane_id()) % 4;
  float sum[4] = {c[0], c[1], c[2], c[3]};
  for (int k = 0; k < 16; ++k) {
    const int owner = k % 8 / 2;
    const int upper = k / 8;
    for (int i = 0; i < 4; ++i) {
      const int row = i / 2;  // 0: g, 1: g + 8
      const int column = 2 * t + i % 2;
      sum[i] += cuemu::half_of_pair(all.value[4 * g + owner].a[2 * upper + row], k % 2) *
                cuemu::half_of_pair(all.value[4 * column + owner].b[upper], k % 2);
    }
  }
  for (int i = 0; i < 4; ++i) d[i] = sum[i];
}

inline uint32_t to_tf32(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7F800000U) == 0x7F800000U) return bits;  // infinities and NaN stay
  return (bits + 0x1000U) & ~0x1FFFU;
}

// a: registers 0..3 hold (row g, k t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (k t, column g),
// (t + 4, g); d as above. The last 13 bits of a float are not looked at.
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             const float (&c)[4], CUEMU_HERE) {
  cuemu::MmaOperands own;
  std::memcpy(own.a, a, sizeof a);
  std::memcpy(own.b, b, sizeof b);
  const auto all = cuemu::all_gather(~0U, own, {"mma.sync", file, line});
  const int g = static_cast<int>(cuemu::lane_id()) / 4;
  const int t = static_cast<int>(cuemu::lane_id()) % 4;
  const auto number = [](uint32_t bits) {
    bits &= ~0x1FFFU;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
  };
  float sum[4] = {c[0], c[1], c[2], c[3]};
  for (int k = 0; k < 8; ++k) {
    for (int i = 0; i < 4; ++i) {
      const int row = i / 2;  // 0: g, 1: g + 8
      const int column = 2 * t + i % 2;
      sum[i] += number(all.value[4 * g + k % 4].a[2 * (k / 4) + row]) *
                number(all.value[4 * column + k % 4].b[k / 4]);
    }
  }
  for (int i = 0; i < 4; ++i) d[i] = sum[i];
}

// a: registers 0..3 hold (row g, k 4t), (g + 8, 4t), (g, 4t + 16), (g + 8, 4t + 16), four bytes
// each; b: (k 4t, column g), (4t + 16, g); d as above.
inline void mma_m16n8k32_s8(int (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            const int (&c)[4], CUEMU_HERE) {
  cuemu::MmaOperands own;
  std::memcpy(own.a, a, sizeof a);
  std::memcpy(own.b, b, sizeof b);
  const auto all = cuemu::all_gather(~0U, own, {"mma.sync", file, line});
  const int g = static_cast<int>(cuemu::lane_id()) / 4;
  const int t = static_cast<int>(cuemu::lane_id()) % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = i / 2;  // 0: g, 1: g + 8
    const int column = 2 * t + i % 2;
    int sum = c[i];
    for (int part = 0; part < 8; ++part) {
      sum = __dp4a(static_cast<int>(all.value[4 * g + part % 4].a[2 * (part / 4) + row]),
                   static_cast<int>(all.value[4 * column + part % 4].b[part / 4]), sum);
    }
    d[i] = sum;
  }
}

// Runs at once: each thread multiplies its own two rows. The order of asynchronous work is that of
// the barriers around it.
inline void wgmma_fence() {}
inline void wgmma_commit() {}
inline void wgmma_wait() {}
inline void fence_proxy_async() {}
inline void wgmma_m64n128k32_s8(int (&d)[64], const SharedColumns& a, const SharedColumns& b,
                                bool add) {
  const int g =
      static_cast<int>(cuemu::lane_id()) / 4 + static_cast<int>(threadIdx.x) / 32 % 4 * 16;
  const int t = static_cast<int>(cuemu::lane_id()) % 4;
  const auto word = [](const SharedColumns& m, int row, int part) {
    int four;
    std::memcpy(&four,
                static_cast<const char*>(m.data) + part / 4 * m.stride + 16 * row + 4 * (part % 4),
                sizeof four);
    return four;
  };
  for (int block = 0; block < 16; ++block) {
    for (int i = 0; i < 4; ++i) {
      int sum = add ? d[4 * block + i] : 0;
      for (int part = 0; part < 8; ++part) {
        sum = __dp4a(word(a, g + i / 2 * 8, part), word(b, 8 * block + 2 * t + i % 2, part), sum);
      }
      d[4 * block + i] = sum;
    }
  }
}

// Lane l points at row l % 8 of tile l / 8; register i gets tile i, row g, columns 2t and 2t + 1.
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, CUEMU_HERE) {
  const auto rows = cuemu::all_gather(~0U, row, {"ldmatrix", file, line});
  const unsigned lane = cuemu::lane_id();
  for (unsigned i = 0; i < 4; ++i) {
    const auto* words = static_cast<const char*>(rows.value[8 * i + lane / 4]);
    std::memcpy(&r[i], words + 4 * (lane % 4), 4);
  }
}
// The same of the transposed tiles: register i gets column g of tile i, rows 2t and 2t + 1.
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, CUEMU_HERE) {
  const auto rows = cuemu::all_gather(~0U, row, {"ldmatrix.trans", file, line});
  const unsigned lane = cuemu::lane_id();
  for (unsigned i = 0; i < 4; ++i) {
    const auto* low = static_cast<const uint16_t*>(rows.value[8 * i + 2 * (lane % 4)]);
    const auto* high = static_cast<const uint16_t*>(rows.value[8 * i + 2 * (lane % 4) + 1]);
    r[i] = low[lane / 4] | static_cast<uint32_t>(high[lane / 4]) << 16;
  }
}

}  // namespace hypertower::ptx
