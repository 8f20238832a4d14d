// CUDA's atomic functions, relaxed as CUDA's are, and cuda::atomic_ref with its memory orders.
// These are compiler atomics in the kernel's own code, so ThreadSanitizer judges them by their
// order. Each is a point where the random schedule may switch threads.
#pragma once

#include "tests/cuemu/core.h"

#include <bit>
#include <cstring>

namespace cuemu {

template <class T>
void check_atomic(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) {
    fault("an atomic on %zu bytes at the misaligned address %p", sizeof(T),
          static_cast<const void*>(p));
  }
  preempt();
}

template <size_t kBytes>
struct UnsignedOf;
template <>
struct UnsignedOf<2> {
  using type = uint16_t;
};
template <>
struct UnsignedOf<4> {
  using type = uint32_t;
};
template <>
struct UnsignedOf<8> {
  using type = uint64_t;
};

// Replaces *p by f(*p), returns the old value. `order` is an __ATOMIC constant.
template <class T, class F>
T atomic_update(T* p, int order, F f) {
  check_atomic(p);
  using Bits = typename UnsignedOf<sizeof(T)>::type;
  auto* word = reinterpret_cast<Bits*>(p);
  Bits old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old, std::bit_cast<Bits>(f(std::bit_cast<T>(old))),
                                      false, order, __ATOMIC_RELAXED)) {
  }
  return std::bit_cast<T>(old);
}

template <class T>
T atomic_cas(T* p, T expected, T desired) {
  check_atomic(p);
  __atomic_compare_exchange_n(p, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

}  // namespace cuemu

#define CUEMU_ATOMIC(name, type, expression)                                   \
  inline type name(type* p, type v) {                                          \
    return cuemu::atomic_update(p, __ATOMIC_RELAXED,                           \
                                [v](type old) -> type { return expression; }); \
  }
#define CUEMU_ATOMIC_INTEGERS(name, expression) \
  CUEMU_ATOMIC(name, int, expression)           \
  CUEMU_ATOMIC(name, unsigned int, expression)  \
  CUEMU_ATOMIC(name, unsigned long long, expression)

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
// Sums of signed integers wrap, as on a device.
inline int atomicAdd(int* p, int v) {
  return cuemu::atomic_update(p, __ATOMIC_RELAXED, [v](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v));
  });
}
inline int atomicSub(int* p, int v) {
  return cuemu::atomic_update(p, __ATOMIC_RELAXED, [v](int old) {
    return static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(v));
  });
}
CUEMU_ATOMIC(atomicAdd, unsigned int, old + v)
CUEMU_ATOMIC(atomicAdd, unsigned long long, old + v)
CUEMU_ATOMIC(atomicAdd, float, old + v)
CUEMU_ATOMIC(atomicAdd, double, old + v)
CUEMU_ATOMIC(atomicSub, unsigned int, old - v)
CUEMU_ATOMIC_INTEGERS(atomicExch, v)
CUEMU_ATOMIC(atomicExch, float, v)
CUEMU_ATOMIC_INTEGERS(atomicMin, old < v ? old : v)
CUEMU_ATOMIC_INTEGERS(atomicMax, old > v ? old : v)
CUEMU_ATOMIC(atomicMin, long long, old < v ? old : v)
CUEMU_ATOMIC(atomicMax, long long, old > v ? old : v)
CUEMU_ATOMIC_INTEGERS(atomicAnd, old& v)
CUEMU_ATOMIC_INTEGERS(atomicOr, old | v)
CUEMU_ATOMIC_INTEGERS(atomicXor, old ^ v)
CUEMU_ATOMIC(atomicInc, unsigned int, old >= v ? 0 : old + 1)
CUEMU_ATOMIC(atomicDec, unsigned int, old == 0 || old > v ? v : old - 1)
#pragma GCC diagnostic pop
#undef CUEMU_ATOMIC_INTEGERS
#undef CUEMU_ATOMIC

inline int atomicCAS(int* p, int expected, int desired) {
  return cuemu::atomic_cas(p, expected, desired);
}
inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned desired) {
  return cuemu::atomic_cas(p, expected, desired);
}
inline unsigned long long atomicCAS(unsigned long long* p, unsigned long long expected,
                                    unsigned long long desired) {
  return cuemu::atomic_cas(p, expected, desired);
}
inline unsigned short atomicCAS(unsigned short* p, unsigned short expected,
                                unsigned short desired) {
  return cuemu::atomic_cas(p, expected, desired);
}

namespace cuda {
namespace std {

enum memory_order {
  memory_order_relaxed = __ATOMIC_RELAXED,
  memory_order_acquire = __ATOMIC_ACQUIRE,
  memory_order_release = __ATOMIC_RELEASE,
  memory_order_acq_rel = __ATOMIC_ACQ_REL,
  memory_order_seq_cst = __ATOMIC_SEQ_CST,
};

}  // namespace std

enum thread_scope { thread_scope_system, thread_scope_device, thread_scope_block };

// The subset that kernels use. Every scope is as strong as the system's.
template <class T, thread_scope = thread_scope_system>
class atomic_ref {
 public:
  explicit atomic_ref(T& object) : p_(&object) {}

  T load(std::memory_order order = std::memory_order_seq_cst) const {
    cuemu::check_atomic(p_);
    T value;
    __atomic_load(p_, &value, order);
    return value;
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) const {
    cuemu::check_atomic(p_);
    __atomic_store(p_, &value, order);
  }
  T exchange(T value, std::memory_order order = std::memory_order_seq_cst) const {
    return cuemu::atomic_update(p_, order, [value](T) { return value; });
  }
  T fetch_add(T value, std::memory_order order = std::memory_order_seq_cst) const {
    return cuemu::atomic_update(p_, order, [value](T old) { return static_cast<T>(old + value); });
  }
  T fetch_sub(T value, std::memory_order order = std::memory_order_seq_cst) const {
    return cuemu::atomic_update(p_, order, [value](T old) { return static_cast<T>(old - value); });
  }
  T fetch_max(T value, std::memory_order order = std::memory_order_seq_cst) const {
    return cuemu::atomic_update(p_, order, [value](T old) { return old < value ? value : old; });
  }
  T fetch_min(T value, std::memory_order order = std::memory_order_seq_cst) const {
    return cuemu::atomic_update(p_, order, [value](T old) { return value < old ? value : old; });
  }
  bool compare_exchange_strong(T& expected, T desired,
                               std::memory_order order = std::memory_order_seq_cst) const {
    cuemu::check_atomic(p_);
    const int failure = order == std::memory_order_acq_rel   ? __ATOMIC_ACQUIRE
                        : order == std::memory_order_release ? __ATOMIC_RELAXED
                                                             : static_cast<int>(order);
    return __atomic_compare_exchange(p_, &expected, &desired, false, order, failure);
  }

 private:
  T* p_;
};

}  // namespace cuda
