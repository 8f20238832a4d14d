// A fiber: a stack with a guard page and a saved stack pointer, switched by a few instructions.
// Private to the core. Sanitizers are told of every switch; ThreadSanitizer sees each fiber as a
// thread of its own and learns no ordering from a switch.
#pragma once

#include <cstddef>

namespace cuemu {

struct Fiber {
  void* stack_pointer = nullptr;
  char* stack_low = nullptr;  // lowest usable address; the guard page lies below
  size_t stack_bytes = 0;
  void* tsan = nullptr;
  void* fake_stack = nullptr;  // of AddressSanitizer
};

// Gives `fiber` a stack (once) and makes its next switch start `entry`, which must not return.
void prepare_fiber(Fiber& fiber, void (*entry)());
// `final`: `from` will never be resumed before it is prepared again.
void switch_fiber(Fiber& from, Fiber& to, bool final = false);
void enter_fiber();  // must be the first call of `entry`
void adopt_host_fiber(Fiber& fiber);
bool in_guard_page(const Fiber& fiber, const void* address);

}  // namespace cuemu
