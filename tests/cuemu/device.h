// Barriers and warp collectives of a CUDA thread, and its shared memory.
#pragma once

#include "tests/cuemu/core.h"

#include <cstring>
#include <type_traits>

#define SHARED(type, name, ...)                   \
  static const char name##_key = 0;               \
  using name##_type = type __VA_ARGS__;           \
  name##_type& name = *static_cast<name##_type*>( \
      cuemu::shared_static(&name##_key, #name, sizeof(name##_type), 16))
#define DYN_SHARED(type, name) type* const name = static_cast<type*>(cuemu::shared_dynamic(#name))

// Default arguments that say where a call stands.
#define CUEMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUEMU_HERE) {
  cuemu::block_barrier(0, cuemu::Vote::kCount, {"__syncthreads", file, line});
}
inline int __syncthreads_count(int predicate, CUEMU_HERE) {
  return cuemu::block_barrier(predicate, cuemu::Vote::kCount, {"__syncthreads_count", file, line});
}
inline int __syncthreads_and(int predicate, CUEMU_HERE) {
  return cuemu::block_barrier(predicate, cuemu::Vote::kAnd, {"__syncthreads_and", file, line});
}
inline int __syncthreads_or(int predicate, CUEMU_HERE) {
  return cuemu::block_barrier(predicate, cuemu::Vote::kOr, {"__syncthreads_or", file, line});
}
inline void __syncwarp(unsigned mask = ~0U, CUEMU_HERE) {
  cuemu::warp_barrier(mask, {"__syncwarp", file, line});
}
// Orders nothing here: the emulator has no weak memory, and ThreadSanitizer knows no fences.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned, CUEMU_HERE) {
  cuemu::yield({"__nanosleep", file, line});
}
// Legal, if unhelpful: threads need not be converged.
inline unsigned __activemask() {
  return 1U << cuemu::lane_id();
}
[[noreturn]] inline void __trap() {
  cuemu::fault("__trap()");
}
inline long long clock64() {
  static long long ticks = 0;
  return __atomic_add_fetch(&ticks, 1, __ATOMIC_RELAXED);
}

namespace cuemu {

// Every lane's value, and the lanes that took part.
template <class T>
struct WarpValues {
  T value[32];
  unsigned lanes;
};

template <class T>
WarpValues<T> all_gather(unsigned mask, const T& value, const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxValueBytes);
  WarpValues<T> all;
  all.lanes = all_gather(mask, &value, all.value, sizeof(T), site);
  return all;
}

// `from` is a lane, or -1 for one's own value.
template <class T>
T shuffle(unsigned mask, const T& value, int from, const Site& site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffles move 8 bytes at most");
  T result;
  shuffle(mask, &value, &result, sizeof(T), from < 0 ? lane_id() : static_cast<unsigned>(from),
          site);
  return result;
}

// First lane of the caller's segment of `width` lanes.
inline int segment(int width, const Site& site) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fault("%s at %s:%d: width %d is not a power of two up to 32", site.what, site.file, site.line,
          width);
  }
  return static_cast<int>(lane_id()) & ~(width - 1);
}

template <class T, class F>
T reduce(unsigned mask, T value, const Site& site, F f) {
  const WarpValues<T> all = all_gather(mask, value, site);
  bool first = true;
  T result = value;
  for (int i = 0; i < 32; ++i) {
    if (((all.lanes >> i) & 1U) == 0) continue;
    result = first ? all.value[i] : f(result, all.value[i]);
    first = false;
  }
  return result;
}

}  // namespace cuemu

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUEMU_HERE) {
  const cuemu::Site site{"__shfl_sync", file, line};
  return cuemu::shuffle(mask, value, cuemu::segment(width, site) + (source & (width - 1)), site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_HERE) {
  const cuemu::Site site{"__shfl_up_sync", file, line};
  const int from = static_cast<int>(cuemu::lane_id()) - static_cast<int>(delta);
  return cuemu::shuffle(mask, value, from < cuemu::segment(width, site) ? -1 : from, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUEMU_HERE) {
  const cuemu::Site site{"__shfl_down_sync", file, line};
  const int from = static_cast<int>(cuemu::lane_id() + delta);
  return cuemu::shuffle(mask, value, from >= cuemu::segment(width, site) + width ? -1 : from, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CUEMU_HERE) {
  const cuemu::Site site{"__shfl_xor_sync", file, line};
  const int from = (static_cast<int>(cuemu::lane_id()) ^ lane_mask) & 31;
  return cuemu::shuffle(mask, value, from >= cuemu::segment(width, site) + width ? -1 : from, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUEMU_HERE) {
  const auto all = cuemu::all_gather(mask, predicate, {"__ballot_sync", file, line});
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= all.value[i] != 0 ? 1U << i : 0U;
  return votes & all.lanes;
}
inline int __any_sync(unsigned mask, int predicate, CUEMU_HERE) {
  return cuemu::reduce(mask, static_cast<int>(predicate != 0), {"__any_sync", file, line},
                       [](int a, int b) { return a | b; });
}
inline int __all_sync(unsigned mask, int predicate, CUEMU_HERE) {
  return cuemu::reduce(mask, static_cast<int>(predicate != 0), {"__all_sync", file, line},
                       [](int a, int b) { return a & b; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, CUEMU_HERE) {
  const auto all = cuemu::all_gather(mask, value, {"__match_any_sync", file, line});
  unsigned same = 0;
  for (int i = 0; i < 32; ++i)
    same |= std::memcmp(&all.value[i], &value, sizeof value) == 0 ? 1U << i : 0U;
  return same & all.lanes;
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* predicate, CUEMU_HERE) {
  const auto all = cuemu::all_gather(mask, value, {"__match_all_sync", file, line});
  unsigned same = 0;
  for (int i = 0; i < 32; ++i)
    same |= std::memcmp(&all.value[i], &value, sizeof value) == 0 ? 1U << i : 0U;
  *predicate = (same & all.lanes) == all.lanes;
  return *predicate != 0 ? all.lanes : 0;
}

#define CUEMU_REDUCE(name, type, expression)                                 \
  inline type name(unsigned mask, type value, CUEMU_HERE) {                  \
    return cuemu::reduce(mask, value, {#name, file, line},                   \
                         [](type a, type b) -> type { return expression; }); \
  }
CUEMU_REDUCE(__reduce_add_sync, unsigned, a + b)
CUEMU_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
CUEMU_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
CUEMU_REDUCE(__reduce_and_sync, unsigned, a& b)
CUEMU_REDUCE(__reduce_or_sync, unsigned, a | b)
CUEMU_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
CUEMU_REDUCE(__reduce_add_sync, int,
             static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
CUEMU_REDUCE(__reduce_min_sync, int, a < b ? a : b)
CUEMU_REDUCE(__reduce_max_sync, int, a > b ? a : b)
#undef CUEMU_REDUCE
