// What a fault prints: the broken rule, then kernel, block, thread and schedule.
#include "tests/cuemu/machine.h"
#include "tests/cuemu/sanitizer.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include <unistd.h>

namespace cuemu {
namespace {

// Static: a fault is found on a small stack, and a heap buffer would look like the kernel's access.
char text[4096];
size_t used = 0;

void vappend(const char* format, va_list args) {
  const int n = std::vsnprintf(text + used, sizeof text - used, format, args);
  if (n > 0)
    used = used + static_cast<size_t>(n) < sizeof text ? used + static_cast<size_t>(n)
                                                       : sizeof text - 1;
}

__attribute__((format(printf, 1, 2))) void append(const char* format, ...) {
  va_list args;
  va_start(args, format);
  vappend(format, args);
  va_end(args);
}

void append_place() {
  static const char* const kOrders[] = {"fwd", "rev", "rand"};
  static const char* const kLandings[] = {"lazy", "eager", "rand"};
  const Grid& g = machine.grid;
  if (machine.running) {
    append("  in kernel '%s' launched at %s:%d, grid (%u,%u,%u), block (%u,%u,%u)\n",
           g.name != nullptr ? g.name : "?", g.file, g.line, g.grid.x, g.grid.y, g.grid.z,
           g.block.x, g.block.y, g.block.z);
    if (const Thread* t = machine.current) {
      const uint3& b = t->block->index;
      append("  by block (%u,%u,%u), thread (%u,%u,%u)\n", b.x, b.y, b.z, t->index.x, t->index.y,
             t->index.z);
    }
  }
  const Schedule& s = machine.schedule;
  append(
      "  schedule CUEMU_ORDER=%s CUEMU_SEED=%llu CUEMU_RESIDENT=%d CUEMU_ASYNC=%s"
      " CUEMU_STREAMS=%s\n",
      kOrders[static_cast<int>(s.order)], static_cast<unsigned long long>(s.seed), s.resident,
      kLandings[static_cast<int>(s.landing)], s.late_streams ? "late" : "now");
}

void write_text() {
  for (size_t done = 0; done < used;) {
    const ssize_t n = write(STDERR_FILENO, text + done, used - done);
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  used = 0;
}

constexpr int kFaultExit = 70;

void on_signal(int signal, siginfo_t* info, void*) {
  used = 0;
  append("cuemu: %s", strsignal(signal));
  if (signal == SIGSEGV && info->si_code == SI_KERNEL) {
    append(" (most likely a misaligned vector access)");
  } else if (signal == SIGSEGV || signal == SIGBUS) {
    const Thread* t = machine.current;
    char note[160];
    device_region_note(info->si_addr, note, sizeof note);
    append(" at address %p%s", info->si_addr, note);
    if (t != nullptr && in_guard_page(t->fiber, info->si_addr)) {
      append("; the thread's stack overflowed (arrays of a thread must stay small)");
    }
  }
  append("\n");
  append_place();
  write_text();
  std::signal(signal, SIG_DFL);
  raise(signal);
}

const char* state_word(const Thread& t) {
  switch (t.state) {
    case State::kReady:
      return t.spun ? "spin in" : "run; last known place";
    case State::kAtBarrier:
    case State::kAtMeeting:
    case State::kAtMbarrier:
      return "wait in";
    case State::kExited:
      return "have exited";
  }
  return "";
}

}  // namespace

void fault(const char* format, ...) {
  std::fflush(stdout);
  append("cuemu: ");
  va_list args;
  va_start(args, format);
  vappend(format, args);
  va_end(args);
  append("\n");
  append_place();
  write_text();
  _exit(kFaultExit);
}

void describe_waiting_threads() {
  int lines = 0;
  for (int b = 0; b < machine.resident && lines < 24; ++b) {
    const Block& block = machine.blocks[b];
    if (!block.alive) continue;
    for (unsigned i = 0; i < machine.threads_per_block && lines < 24;) {
      const Thread& t = block.threads[i];
      unsigned last = i;
      while (last + 1 < machine.threads_per_block) {
        const Thread& next = block.threads[last + 1];
        if (next.state != t.state || next.site.line != t.site.line ||
            next.site.what != t.site.what) {
          break;
        }
        ++last;
      }
      append("cuemu: block (%u,%u,%u) threads %u..%u %s", block.index.x, block.index.y,
             block.index.z, i, last, state_word(t));
      if (t.state != State::kExited && t.site.what != nullptr) {
        append(" %s at %s:%d", t.site.what, t.site.file, t.site.line);
      }
      append("\n");
      ++lines;
      i = last + 1;
    }
  }
}

void install_fault_handlers() {
  thread_local bool installed = false;
  if (installed) return;
  installed = true;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGABRT, &action, nullptr);  // an assert in a kernel
  if (kAsan || kTsan) return;            // the sanitizers report the others themselves
  static thread_local char stack[64 << 10];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(signal, &action, nullptr);
}

}  // namespace cuemu

#if defined(CUEMU_ASAN)
// Called by the sanitizer's runtime before it prints its report.
extern "C" void __asan_on_error() {
  using namespace cuemu;
  char note[160];
  device_region_note(__asan_get_report_address(), note, sizeof note);
  const bool host = !machine.running && note[0] != '\0';
  append("cuemu: the address of the report is %p%s%s\n", __asan_get_report_address(), note,
         host ? "; host code must not touch device memory, use cudaMemcpy" : "");
  append_place();
  write_text();
}
#endif
