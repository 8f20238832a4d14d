// What this machine can do at best, to hold a search against: the rate of int8 dot products in
// registers, and the rate of reading memory that no cache holds. Called from floors.py.
//
// Each call splits a fixed amount of work over `threads` threads and reports the seconds on the
// wall and on the processors. Both loops do nothing but what they measure, so no search that
// computes int8 scores of all items can be faster than the slower of the two.
#include <immintrin.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

namespace {

// Enough to hide the latency of an instruction, and few enough for the registers.
constexpr int kWideSums = 12, kNarrowSums = 6;

double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Sums meet in a register at the end: an array whose address is taken would be stored every round.
[[gnu::target("avx512f,avx512vnni"), gnu::noinline]] void dot_avx512(int64_t rounds) {
  __m512i sum[kWideSums] = {};
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (auto& s : sum) {
      asm volatile("vpdpbusd %2, %1, %0" : "+v"(s) : "v"(a), "v"(b));
    }
  }
#pragma GCC unroll 12
  for (int i = 1; i < kWideSums; ++i) {
    sum[0] = _mm512_add_epi32(sum[0], sum[i]);
  }
  asm volatile("" : : "v"(sum[0]));
}

[[gnu::target("avx2"), gnu::noinline]] void dot_avx2(int64_t rounds) {
  __m256i sum[kNarrowSums] = {};
  __m256i a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 6
    for (auto& s : sum) {
      asm volatile("" : "+x"(a));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
#pragma GCC unroll 6
  for (int i = 1; i < kNarrowSums; ++i) {
    sum[0] = _mm256_add_epi32(sum[0], sum[i]);
  }
  asm volatile("" : : "x"(sum[0]));
}

// Four streams, because one alone leaves memory idle while a page ends.
[[gnu::target("avx2"), gnu::noinline]] void read_avx2(const char* begin, int64_t bytes) {
  constexpr int kStreams = 4;
  constexpr int64_t kAhead = 4096;
  __m256i sum[2 * kStreams] = {};
  const int64_t part = bytes / kStreams / 64 * 64;
  for (int64_t i = 0; i < part; i += 64) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const char* p = begin + s * part + i;
      _mm_prefetch(p + kAhead, _MM_HINT_T0);
      for (int half = 0; half < 2; ++half) {
        const auto* at = reinterpret_cast<const __m256i*>(p + 32 * half);
        sum[2 * s + half] = _mm256_xor_si256(sum[2 * s + half], _mm256_loadu_si256(at));
      }
    }
  }
#pragma GCC unroll 12
  for (int i = 1; i < 2 * kStreams; ++i) {
    sum[0] = _mm256_add_epi32(sum[0], sum[i]);
  }
  asm volatile("" : : "x"(sum[0]));
}

bool has_vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
}

// Runs work(thread) on all threads at once.
template <typename Work>
void timed(int threads, double* wall, double* cpu, const Work& work) {
  const double cpu_start = processor_seconds();
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) {
    others.emplace_back([&work, t] { work(t); });
  }
  work(0);
  for (auto& other : others) {
    other.join();
  }
  *wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  *cpu = processor_seconds() - cpu_start;
}

}  // namespace

extern "C" {

// Name of the instruction that hypertower_floor_dot counts, or null where there is none.
const char* hypertower_floor_instruction() {
  if (has_vnni()) {
    return "AVX-512 VNNI";
  }
  return __builtin_cpu_supports("avx2") ? "AVX2" : nullptr;
}

// Operations done (a multiplication and an addition are two), `rounds` on each thread.
double hypertower_floor_dot(int threads, int64_t rounds, double* wall, double* cpu) {
  const bool wide = has_vnni();
  timed(threads, wall, cpu, [&](int) { wide ? dot_avx512(rounds) : dot_avx2(rounds); });
  return 2.0 * (wide ? 64 * kWideSums : 32 * kNarrowSums) * static_cast<double>(rounds) * threads;
}

// Bytes read: every byte of the buffer once, a part by each thread.
double hypertower_floor_read(int threads, const char* buffer, int64_t bytes, double* wall,
                             double* cpu) {
  const int64_t part = bytes / threads / 256 * 256;
  timed(threads, wall, cpu, [&](int t) { read_avx2(buffer + t * part, part); });
  return static_cast<double>(part) * threads;
}
}
