#include "tests/cuemu/fiber.h"

#include "tests/cuemu/sanitizer.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <sys/mman.h>

#ifndef __x86_64__
#error "tests/cuemu switches stacks in x86-64 assembly; other processors are not supported"
#endif

// void cuemu_switch(void** save, void* load): callee-saved registers go to the old stack.
asm(R"(
.text
.globl cuemu_switch
.hidden cuemu_switch
.type cuemu_switch, @function
cuemu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuemu_switch, .-cuemu_switch
)");
extern "C" void cuemu_switch(void** save, void* load);

namespace cuemu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kStackBytes = (kAsan || kTsan) ? size_t{256} << 10 : size_t{64} << 10;

// Stack bounds of the host thread, as AddressSanitizer reports them on the first switch away.
const void* host_stack_low = nullptr;
size_t host_stack_bytes = 0;

}  // namespace

void prepare_fiber(Fiber& fiber, void (*entry)()) {
  if (fiber.stack_low == nullptr) {
    void* memory = mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
      std::fputs("cuemu: no memory for the stack of a CUDA thread\n", stderr);
      std::abort();
    }
    fiber.stack_low = static_cast<char*>(memory) + kPage;
    fiber.stack_bytes = kStackBytes;
  }
  if (fiber.tsan == nullptr) fiber.tsan = tsan_create_fiber();
  fiber.fake_stack = nullptr;
  // From the top: a null return address that ends back traces, the entry, six zero registers.
  auto** slot = reinterpret_cast<void**>(fiber.stack_low + fiber.stack_bytes);
  *--slot = nullptr;
  *--slot = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--slot = nullptr;
  fiber.stack_pointer = slot;
}

void adopt_host_fiber(Fiber& fiber) {
  fiber.tsan = tsan_current_fiber();
}

void switch_fiber(Fiber& from, Fiber& to, bool final) {
  const bool to_host = to.stack_low == nullptr;
  asan_start_switch(final ? nullptr : &from.fake_stack, to_host ? host_stack_low : to.stack_low,
                    to_host ? host_stack_bytes : to.stack_bytes);
  tsan_switch_to_fiber(to.tsan);
  cuemu_switch(&from.stack_pointer, to.stack_pointer);
  asan_finish_switch(from.fake_stack, nullptr, nullptr);
}

void enter_fiber() {
  asan_finish_switch(nullptr, &host_stack_low, &host_stack_bytes);
}

bool in_guard_page(const Fiber& fiber, const void* address) {
  const char* byte = static_cast<const char*>(address);
  return fiber.stack_low != nullptr && byte >= fiber.stack_low - kPage && byte < fiber.stack_low;
}

}  // namespace cuemu
