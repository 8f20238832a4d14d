// The CUDA words and vector types that kernels use, for a host compiler. Layout and alignment equal
// the toolkit's, so a misaligned vector access is as wrong here (UBSan names it) as on a device.
#pragma once

#include <cstddef>
#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
// No `__shared__`: it cannot be a plain variable once two blocks are alive. Use SHARED, DYN_SHARED.

#define CUEMU_VECTOR(base, name, align1, align2, align4)          \
  struct alignas(align1) name##1 {                                \
    base x;                                                       \
  };                                                              \
  struct alignas(align2) name##2 {                                \
    base x, y;                                                    \
  };                                                              \
  struct name##3 {                                                \
    base x, y, z;                                                 \
  };                                                              \
  struct alignas(align4) name##4 {                                \
    base x, y, z, w;                                              \
  };                                                              \
  inline name##1 make_##name##1(base x) {                         \
    return {x};                                                   \
  }                                                               \
  inline name##2 make_##name##2(base x, base y) {                 \
    return {x, y};                                                \
  }                                                               \
  inline name##3 make_##name##3(base x, base y, base z) {         \
    return {x, y, z};                                             \
  }                                                               \
  inline name##4 make_##name##4(base x, base y, base z, base w) { \
    return {x, y, z, w};                                          \
  }

CUEMU_VECTOR(signed char, char, 1, 2, 4)
CUEMU_VECTOR(unsigned char, uchar, 1, 2, 4)
CUEMU_VECTOR(short, short, 2, 4, 8)
CUEMU_VECTOR(unsigned short, ushort, 2, 4, 8)
CUEMU_VECTOR(int, int, 4, 8, 16)
CUEMU_VECTOR(unsigned int, uint, 4, 8, 16)
CUEMU_VECTOR(long long, longlong, 8, 16, 16)
CUEMU_VECTOR(unsigned long long, ulonglong, 8, 16, 16)
CUEMU_VECTOR(float, float, 4, 8, 16)
CUEMU_VECTOR(double, double, 8, 16, 16)
#undef CUEMU_VECTOR

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1)
      : x(vx), y(vy), z(vz) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

inline constexpr int warpSize = 32;
