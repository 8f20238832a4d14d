// The sanitizers' hooks as plain functions that do nothing in a build without them. Private to the
// core, which is compiled without instrumentation but with CUEMU_ASAN or CUEMU_TSAN defined.
#pragma once

#include <cstddef>

#if defined(CUEMU_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CUEMU_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range_pc(void* address, unsigned long bytes, void* pc);
void __tsan_write_range_pc(void* address, unsigned long bytes, void* pc);
}
#endif

namespace cuemu {

#if defined(CUEMU_ASAN)
inline constexpr bool kAsan = true;
inline void asan_poison(const void* p, size_t n) {
  __asan_poison_memory_region(p, n);
}
inline void asan_unpoison(const void* p, size_t n) {
  __asan_unpoison_memory_region(p, n);
}
inline void asan_start_switch(void** save, const void* low, size_t bytes) {
  __sanitizer_start_switch_fiber(save, low, bytes);
}
inline void asan_finish_switch(void* fake, const void** low, size_t* bytes) {
  __sanitizer_finish_switch_fiber(fake, low, bytes);
}
#else
inline constexpr bool kAsan = false;
inline void asan_poison(const void*, size_t) {}
inline void asan_unpoison(const void*, size_t) {}
inline void asan_start_switch(void**, const void*, size_t) {}
inline void asan_finish_switch(void*, const void**, size_t*) {}
#endif

#if defined(CUEMU_TSAN)
inline constexpr bool kTsan = true;
inline void* tsan_current_fiber() {
  return __tsan_get_current_fiber();
}
inline void* tsan_create_fiber() {
  return __tsan_create_fiber(0);
}
// 1: the switch itself orders nothing.
inline void tsan_switch_to_fiber(void* fiber) {
  __tsan_switch_to_fiber(fiber, 1);
}
inline void tsan_name_fiber(void* fiber, const char* name) {
  __tsan_set_fiber_name(fiber, name);
}
inline void tsan_acquire(const void* address) {
  __tsan_acquire(const_cast<void*>(address));
}
inline void tsan_release(const void* address) {
  __tsan_release(const_cast<void*>(address));
}
inline void tsan_read(const void* address, size_t bytes, void* pc) {
  __tsan_read_range_pc(const_cast<void*>(address), bytes, pc);
}
inline void tsan_write(void* address, size_t bytes, void* pc) {
  __tsan_write_range_pc(address, bytes, pc);
}
#else
inline constexpr bool kTsan = false;
inline void* tsan_current_fiber() {
  return nullptr;
}
inline void* tsan_create_fiber() {
  return nullptr;
}
inline void tsan_switch_to_fiber(void*) {}
inline void tsan_name_fiber(void*, const char*) {}
inline void tsan_acquire(const void*) {}
inline void tsan_release(const void*) {}
inline void tsan_read(const void*, size_t, void*) {}
inline void tsan_write(void*, size_t, void*) {}
#endif

}  // namespace cuemu
