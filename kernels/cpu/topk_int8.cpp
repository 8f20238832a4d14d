// Each pass keeps the products of its queries with the items of a tile in registers and looks at
// all their signs at once: less than the threshold is negative, and most calls end there.
#include "kernels/cpu/topk_int8.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace hypertower::cpu {
namespace {

int32_t plain_product(const uint8_t* item, const int8_t* query, int64_t steps) {
  int32_t sum = 0;
  for (int64_t k = 0; k < steps; ++k) {
    for (int j = 0; j < 4; ++j) sum += item[k * kTileItems * 4 + j] * query[k * 4 + j];
  }
  return sum;
}

}  // namespace

#if defined(__x86_64__)
namespace {

#define HYPERTOWER_INLINE inline __attribute__((always_inline))
#define HYPERTOWER_AVX2 __attribute__((target("avx2,fma")))
#define HYPERTOWER_AVX512 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

// An item is of interest when  e . c >= gate / s - slack.  Over a tile the right side is least at
// one end of its scales. Rounded down by more than all roundings here, and clamped to what products
// can reach.
HYPERTOWER_INLINE void set_thresholds(const TileBounds& bounds, const QueryGroup& group,
                                      int64_t steps, TileHits* hits) {
  const float most = 127.0F * 127.0F * 4.0F * static_cast<float>(steps) + 1.0F;
  for (int q = 0; q < kMaxGroup; ++q) {
    const float gate = group.gate[q];
    const float slack =
        group.norm[q] * bounds.max_residual + group.residual[q] * bounds.max_norm + 0x1p-10F;
    const float at = gate * (gate >= 0.0F ? bounds.min_inverse_scale : bounds.max_inverse_scale);
    float least = at - slack;
    least -= (std::fabs(at) + slack) * 0x1p-20F + 4.0F;
    least = least > -most ? least : -most;  // NaN, from an open gate and no bound: look at all
    hits->slack[q] = slack;
    hits->threshold[q] = static_cast<int32_t>(least < most ? least : most);
  }
}

// Up to three cache lines, what one step of a tile has.
HYPERTOWER_INLINE void fetch(const char*& next, int lines) {
  if (lines > 0) _mm_prefetch(next, _MM_HINT_T0);
  if (lines > 1) _mm_prefetch(next + 64, _MM_HINT_T0);
  if (lines > 2) _mm_prefetch(next + 128, _MM_HINT_T0);
  next += lines * 64;
}

HYPERTOWER_INLINE int32_t word(const int8_t* bytes) {
  int32_t w;
  __builtin_memcpy(&w, bytes, 4);
  return w;
}

// Eight queries and 48 items are 24 accumulators of the 32 registers. What keeps GCC 12 from
// spilling them: the instruction written out, a function of its own, few other vectors alive.
// Returns the queries that have lanes; without any, nothing is written.
template <int kWidth>
HYPERTOWER_AVX512 __attribute__((noinline)) uint32_t avx512_products(
    const uint8_t* tile, const int8_t* query, const int32_t* start, int64_t steps, const char* next,
    int lines, TileHits* hits) {
  __m512i sum[kWidth * 3];
#pragma GCC unroll 24
  for (int i = 0; i < kWidth * 3; ++i) sum[i] = _mm512_set1_epi32(start[i / 3]);
  for (int64_t k = 0; k < steps; ++k) {
    const __m512i x = _mm512_loadu_si512(tile + k * kTileItems * 4);
    const __m512i y = _mm512_loadu_si512(tile + k * kTileItems * 4 + 64);
    const __m512i z = _mm512_loadu_si512(tile + k * kTileItems * 4 + 128);
    fetch(next, lines);
#pragma GCC unroll 8
    for (int q = 0; q < kWidth; ++q) {
      const __m512i e = _mm512_set1_epi32(word(query + (k * kWidth + q) * 4));
      asm("vpdpbusd %1, %2, %0" : "+v"(sum[q * 3]) : "v"(e), "v"(x));
      asm("vpdpbusd %1, %2, %0" : "+v"(sum[q * 3 + 1]) : "v"(e), "v"(y));
      asm("vpdpbusd %1, %2, %0" : "+v"(sum[q * 3 + 2]) : "v"(e), "v"(z));
    }
  }
  __m512i even = sum[0], odd = sum[1];
#pragma GCC unroll 24
  for (int i = 2; i + 1 < kWidth * 3; i += 2) {
    even = _mm512_and_si512(even, sum[i]);
    odd = _mm512_and_si512(odd, sum[i + 1]);
  }
  even = _mm512_and_si512(even, odd);
  if constexpr (kWidth % 2 != 0) even = _mm512_and_si512(even, sum[kWidth * 3 - 1]);
  if (__builtin_expect(_mm512_movepi32_mask(even) == 0xFFFF, 1)) return 0;
  uint32_t queries = 0;
#pragma GCC unroll 8
  for (int q = 0; q < kWidth; ++q) {
    const uint64_t negative = uint64_t{_mm512_movepi32_mask(sum[q * 3])} |
                              uint64_t{_mm512_movepi32_mask(sum[q * 3 + 1])} << 16 |
                              uint64_t{_mm512_movepi32_mask(sum[q * 3 + 2])} << 32;
    const uint64_t lanes = ~negative & ((uint64_t{1} << kTileItems) - 1);
    hits->lanes[q] = lanes;
    queries |= static_cast<uint32_t>(lanes != 0) << q;
    for (int v = 0; v < 3; ++v) {
      _mm512_store_si512(hits->product + q * kTileItems + v * 16, sum[q * 3 + v]);
    }
  }
  return queries;
}

template <int kWidth>
HYPERTOWER_AVX512 uint32_t avx512_pass(const uint8_t* tile, const TileBounds& bounds,
                                       const QueryGroup& group, int64_t steps, const char* next,
                                       int lines, TileHits* hits) {
  set_thresholds(bounds, group, steps, hits);
  int32_t start[kMaxGroup];
  for (int q = 0; q < kMaxGroup; ++q) start[q] = -hits->threshold[q] - group.offset[q];
  return avx512_products<kWidth>(tile, group.bytes, start, steps, next, lines, hits);
}

// Adds the products of four columns to eight sums. Without VNNI the bytes' shift is taken back
// first: maddubs adds pairs in 16 bits, which only |c| times e with the sign of c fits.
template <bool kVnni>
HYPERTOWER_AVX2 HYPERTOWER_INLINE __m256i dot(__m256i sum, __m256i x, __m256i e) {
  if constexpr (kVnni) {
    asm("%{vex%} vpdpbusd %1, %2, %0" : "+x"(sum) : "x"(e), "x"(x));
    return sum;
  } else {
    const __m256i c = _mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(0x80)));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(c), _mm256_sign_epi8(e, c));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
}

// Two queries and half a tile at a time: six accumulators of the 16 registers.
template <int kWidth, bool kVnni>
HYPERTOWER_AVX2 __attribute__((noinline)) uint32_t avx2_pass(const uint8_t* tile,
                                                             const TileBounds& bounds,
                                                             const QueryGroup& group, int64_t steps,
                                                             const char* next, int lines,
                                                             TileHits* hits) {
  constexpr int kPair = kWidth == 1 ? 1 : 2;
  set_thresholds(bounds, group, steps, hits);
  std::fill(hits->lanes, hits->lanes + kWidth, 0);
  for (int first = 0; first < kWidth; first += kPair) {
    for (int half = 0; half < 2; ++half) {
      __m256i sum[kPair][3];
#pragma GCC unroll 2
      for (int q = 0; q < kPair; ++q) {
        sum[q][0] = sum[q][1] = sum[q][2] =
            _mm256_set1_epi32(-hits->threshold[first + q] - (kVnni ? group.offset[first + q] : 0));
      }
      const uint8_t* at = tile + half * 96;
      const int8_t* query = group.bytes + first * 4;
      for (int64_t k = 0; k < steps; ++k) {
#pragma GCC unroll 3
        for (int v = 0; v < 3; ++v) {
          const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + v * 32));
#pragma GCC unroll 2
          for (int q = 0; q < kPair; ++q) {
            sum[q][v] = dot<kVnni>(sum[q][v], x, _mm256_set1_epi32(word(query + q * 4)));
          }
        }
        if (first == 0 && half == 0) fetch(next, lines);
        at += kTileItems * 4;
        query += kWidth * 4;
      }
#pragma GCC unroll 2
      for (int q = 0; q < kPair; ++q) {
#pragma GCC unroll 3
        for (int v = 0; v < 3; ++v) {
          const int place = half * 24 + v * 8;
          int32_t* to = hits->product + (first + q) * kTileItems + place;
          _mm256_store_si256(reinterpret_cast<__m256i*>(to), sum[q][v]);
          const int negative = _mm256_movemask_ps(_mm256_castsi256_ps(sum[q][v]));
          hits->lanes[first + q] |= static_cast<uint64_t>(~negative & 255) << place;
        }
      }
    }
  }
  uint32_t queries = 0;
  for (int q = 0; q < kWidth; ++q) queries |= static_cast<uint32_t>(hits->lanes[q] != 0) << q;
  return queries;
}

// The words of one item are 48 apart. Put together word by word: gather instructions take twice as
// long.
HYPERTOWER_AVX512 HYPERTOWER_INLINE __m128i four_words(const uint8_t* item) {
  int32_t w[4];
  for (int k = 0; k < 4; ++k) __builtin_memcpy(w + k, item + k * kTileItems * 4, 4);
  return _mm_setr_epi32(w[0], w[1], w[2], w[3]);
}

HYPERTOWER_AVX512 int32_t avx512_product(const uint8_t* item, const int8_t* query, int64_t steps) {
  const auto words = [&](int64_t k) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(query + k * 4));
  };
  __m128i even = _mm_setzero_si128(), odd = even;
  int64_t k = 0;
  for (; k + 8 <= steps; k += 8) {
    even = _mm_dpbusd_epi32(even, four_words(item + k * kTileItems * 4), words(k));
    odd = _mm_dpbusd_epi32(odd, four_words(item + (k + 4) * kTileItems * 4), words(k + 4));
  }
  const __m128i four = _mm_add_epi32(even, odd);
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(two) + _mm_extract_epi32(two, 1) +
         plain_product(item + k * kTileItems * 4, query + k * 4, steps - k);
}

template <int kWidth>
Int8Pass pass_of(Int8Tier tier) {
  switch (tier) {
    case Int8Tier::kAvx512Vnni:
      return avx512_pass<kWidth>;
    case Int8Tier::kAvxVnni:
      return avx2_pass<kWidth, true>;
    case Int8Tier::kAvx2:
      return avx2_pass<kWidth, false>;
    case Int8Tier::kNone:
      break;
  }
  return nullptr;
}

// Compilers of the time know the instruction, but not all of them its name here.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
}

}  // namespace

bool is_offered(Int8Tier tier) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  switch (tier) {
    case Int8Tier::kNone:
      return true;
    case Int8Tier::kAvx2:
      return avx2;
    case Int8Tier::kAvxVnni:
      return avx2 && has_avx_vnni();
    case Int8Tier::kAvx512Vnni:
      return avx2 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return false;
}

Int8Pass int8_pass(Int8Tier tier, int width) {
  assert(tier != Int8Tier::kNone && is_offered(tier));
  switch (width) {
    case 1:
      return pass_of<1>(tier);
    case 2:
      return pass_of<2>(tier);
    case 4:
      return pass_of<4>(tier);
    default:
      return pass_of<8>(tier);
  }
}

int32_t int8_product(Int8Tier tier, const uint8_t* item, const int8_t* query, int64_t steps) {
  if (tier == Int8Tier::kAvx512Vnni) return avx512_product(item, query, steps);
  return plain_product(item, query, steps);
}

#else

bool is_offered(Int8Tier tier) {
  return tier == Int8Tier::kNone;
}
Int8Pass int8_pass(Int8Tier, int) {
  return nullptr;
}
int32_t int8_product(Int8Tier, const uint8_t* item, const int8_t* query, int64_t steps) {
  return plain_product(item, query, steps);
}

#endif

Int8Tier best_int8_tier() {
  static const Int8Tier best = [] {
    for (const Int8Tier tier : {Int8Tier::kAvx512Vnni, Int8Tier::kAvxVnni, Int8Tier::kAvx2}) {
      if (is_offered(tier)) return tier;
    }
    return Int8Tier::kNone;
  }();
  return best;
}

}  // namespace hypertower::cpu
