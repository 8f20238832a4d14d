// Runs a grid: keeps some blocks alive, and switches to one ready CUDA thread after another.
#include "tests/cuemu/machine.h"
#include "tests/cuemu/sanitizer.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuemu {

Machine machine;

namespace {

// A spinning kernel makes progress within this many yields, or never will.
constexpr uint64_t kLivelockSpins = 2'000'000;
constexpr uint64_t kLandAfterSpins = 1'000;
// ThreadSanitizer of g++ 12 keeps about 0.8 MB for each fiber.
constexpr unsigned kTsanThreads = 1024;
constexpr int kMaxResident = 1024;
constexpr size_t kMaxThreads = size_t{kMaxResident} * 1024;

thread_local bool runs_grid = false;  // this host thread runs a grid
bool schedule_known = false;
uint64_t launches = 0;
char launch_order, launch_end;  // orderings between host and kernel
uint32_t* block_order = nullptr;

long long read_number(const char* name, const char* text, long long low, long long high) {
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || value < low || value > high) {
    fault("%s: expected a number from %lld to %lld, got '%s'", name, low, high, text);
  }
  return value;
}

int read_word(const char* name, const char* text, const char* first, const char* second,
              const char* third = nullptr) {
  if (std::strcmp(text, first) == 0) return 0;
  if (std::strcmp(text, second) == 0) return 1;
  if (third == nullptr) fault("%s: expected %s or %s, got '%s'", name, first, second, text);
  if (std::strcmp(text, third) == 0) return 2;
  fault("%s: expected %s, %s or %s, got '%s'", name, first, second, third, text);
}

Schedule schedule_of_environment() {
  Schedule s;
  if (const char* text = std::getenv("CUEMU_ORDER")) {
    s.order = static_cast<Order>(read_word("CUEMU_ORDER", text, "fwd", "rev", "rand"));
  }
  if (const char* text = std::getenv("CUEMU_ASYNC")) {
    s.landing = static_cast<Landing>(read_word("CUEMU_ASYNC", text, "lazy", "eager", "rand"));
  }
  if (const char* text = std::getenv("CUEMU_STREAMS")) {
    s.late_streams = read_word("CUEMU_STREAMS", text, "now", "late") == 1;
  }
  if (const char* text = std::getenv("CUEMU_SEED")) {
    s.seed = static_cast<uint64_t>(read_number("CUEMU_SEED", text, 0, INT64_MAX));
  }
  if (const char* text = std::getenv("CUEMU_RESIDENT")) {
    s.resident = static_cast<int>(read_number("CUEMU_RESIDENT", text, 1, kMaxResident));
  }
  return s;
}

void thread_main() {
  enter_fiber();
  Thread& thread = *machine.current;
  tsan_acquire(&launch_order);
  machine.grid.thread_main(machine.grid.context);
  tsan_release(&launch_end);
  check_async_exit(thread);
  check_block_exit(thread);
  thread.state = State::kExited;
  --thread.block->live_threads;
  leave_warp(thread);
  machine.spins = 0;
  switch_fiber(thread.fiber, machine.host, /*final=*/true);
}

uint3 coordinates(uint64_t linear, const dim3& size) {
  return {static_cast<unsigned>(linear % size.x), static_cast<unsigned>(linear / size.x % size.y),
          static_cast<unsigned>(linear / size.x / size.y)};
}

void start_block(int slot, uint64_t linear) {
  Block& block = machine.blocks[slot];
  block.alive = true;
  block.index = coordinates(linear, machine.grid.grid);
  block.live_threads = machine.threads_per_block;
  start_shared(block, slot, linear);
  reset_sync(block);
  for (unsigned i = 0; i < machine.threads_per_block; ++i) {
    Thread& thread = block.threads[i];
    thread.block = &block;
    thread.warp = &block.warps[i / 32];
    thread.index = coordinates(i, machine.grid.block);
    thread.linear = i;
    thread.state = State::kReady;
    thread.site = {};
    thread.spun = false;
    thread.copies.clear();
    thread.open_group = 0;
    prepare_fiber(thread.fiber, thread_main);
    if (kTsan) {
      char name[96];
      std::snprintf(name, sizeof name, "block(%u,%u,%u)thread(%u,%u,%u)", block.index.x,
                    block.index.y, block.index.z, thread.index.x, thread.index.y, thread.index.z);
      tsan_name_fiber(thread.fiber.tsan, name);
    }
  }
  make_block_ready(block, State::kReady, nullptr);
}

Thread* next_ready() {
  if (machine.ready_count == 0) return nullptr;
  Thread*& first = machine.ready[machine.ready_first];
  if (machine.schedule.order == Order::kRandom) {
    const size_t at = (machine.ready_first + random_number() % machine.ready_count) % kMaxThreads;
    Thread* chosen = machine.ready[at];
    machine.ready[at] = first;
    first = chosen;
  }
  Thread* thread = first;
  machine.ready_first = (machine.ready_first + 1) % kMaxThreads;
  --machine.ready_count;
  return thread;
}

bool land_any_bulk_copy() {
  for (int i = 0; i < machine.resident; ++i) {
    if (machine.blocks[i].alive && land_bulk_copy(machine.blocks[i])) return true;
  }
  return false;
}

void run_blocks(uint64_t total) {
  uint64_t started = 0, finished = 0;
  while (finished < total) {
    for (int slot = 0; slot < machine.resident && started < total; ++slot) {
      if (!machine.blocks[slot].alive) start_block(slot, block_order[started++]);
    }
    const bool coin = machine.schedule.landing == Landing::kRandom && random_number() % 16 == 0;
    if (coin || machine.spins % kLandAfterSpins == kLandAfterSpins - 1) land_any_bulk_copy();
    Thread* thread = next_ready();
    if (thread == nullptr) {
      if (land_any_bulk_copy()) continue;
      describe_waiting_threads();
      fault("deadlock: every live thread waits (listed above)");
    }
    if (machine.spins > kLivelockSpins) {
      describe_waiting_threads();
      fault("livelock: threads spin on something that no other thread will change (listed above)");
    }
    set_current(thread);
    switch_fiber(machine.host, thread->fiber);
    if (thread->block->live_threads == 0) {
      check_bulk_exit(*thread->block);
      finish_shared(*thread->block);
      thread->block->alive = false;
      ++finished;
    }
  }
}

// All that can ever be alive, as address space; a page costs memory once it is used. Threads keep
// their stacks between grids.
template <class T>
T* raw_objects(size_t count) {
  return static_cast<T*>(raw_pages(count * sizeof(T)));
}

void place_blocks() {
  static Thread* const threads = raw_objects<Thread>(kMaxThreads);
  static Warp* const warps = raw_objects<Warp>(kMaxThreads);
  static Block* const blocks = raw_objects<Block>(kMaxResident);
  static Thread** const ready = raw_objects<Thread*>(kMaxThreads);
  machine.blocks = blocks;
  machine.ready = ready;
  machine.ready_first = machine.ready_count = 0;
  for (int i = 0; i < machine.resident; ++i) {
    blocks[i].threads = threads + static_cast<size_t>(i) * machine.threads_per_block;
    blocks[i].warps = warps + static_cast<size_t>(i) * machine.warps_per_block;
  }
}

void order_blocks(uint64_t total) {
  delete[] block_order;
  block_order = new uint32_t[total];
  for (uint64_t i = 0; i < total; ++i) {
    block_order[i] =
        static_cast<uint32_t>(machine.schedule.order == Order::kReverse ? total - 1 - i : i);
  }
  if (machine.schedule.order != Order::kRandom) return;
  for (uint64_t i = total; i > 1; --i) {
    const uint64_t j = random_number() % i;
    const uint32_t kept = block_order[i - 1];
    block_order[i - 1] = block_order[j];
    block_order[j] = kept;
  }
}

}  // namespace

uint64_t random_number() {  // splitmix64
  uint64_t z = machine.random += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

void make_ready(Thread* thread) {
  thread->state = State::kReady;
  machine.ready[(machine.ready_first + machine.ready_count++) % kMaxThreads] = thread;
}

void make_block_ready(Block& block, State waiting_in, Thread* except) {
  const unsigned n = machine.threads_per_block;
  const bool reverse = machine.schedule.order == Order::kReverse;
  for (unsigned i = 0; i < n; ++i) {
    Thread& thread = block.threads[reverse ? n - 1 - i : i];
    if (thread.state == waiting_in && &thread != except) make_ready(&thread);
  }
}

void set_current(Thread* thread) {
  machine.current = thread;
  threadIdx = thread->index;
  blockIdx = thread->block->index;
}

void wait_here(State state, Site site) {
  Thread& thread = *machine.current;
  thread.state = state;
  thread.site = site;
  switch_fiber(thread.fiber, machine.host);
}

void yield(Site site) {
  if (!runs_grid) return;
  Thread* thread = machine.current;
  ++machine.spins;
  thread->site = site;
  thread->spun = true;
  make_ready(thread);
  switch_fiber(thread->fiber, machine.host);
}

void preempt() {
  if (!runs_grid || machine.schedule.order != Order::kRandom || random_number() % 8 != 0) {
    return;
  }
  make_ready(machine.current);
  switch_fiber(machine.current->fiber, machine.host);
}

unsigned lane_id() {
  return machine.current->linear % 32;
}

bool in_kernel() {
  return runs_grid;
}

Schedule schedule() {
  const std::lock_guard lock(machine_mutex());
  if (!schedule_known) {
    machine.schedule = schedule_of_environment();
    schedule_known = true;
  }
  return machine.schedule;
}

void set_schedule(const Schedule& s) {
  const std::lock_guard lock(machine_mutex());
  machine.schedule = s;
  schedule_known = true;
  launches = 0;
}

const char* refusal(const Grid& g) {
  thread_local char text[160];
  const uint64_t threads = uint64_t{g.block.x} * g.block.y * g.block.z;
  if (g.grid.x == 0 || g.grid.y == 0 || g.grid.z == 0 || threads == 0) {
    std::snprintf(text, sizeof text, "an empty grid (%u,%u,%u) or block (%u,%u,%u)", g.grid.x,
                  g.grid.y, g.grid.z, g.block.x, g.block.y, g.block.z);
  } else if (g.grid.x > 0x7fffffffU || g.grid.y > 65535 || g.grid.z > 65535) {
    std::snprintf(text, sizeof text, "grid (%u,%u,%u) exceeds (2^31-1, 65535, 65535)", g.grid.x,
                  g.grid.y, g.grid.z);
  } else if (threads > 1024 || g.block.z > 64) {
    std::snprintf(text, sizeof text, "block (%u,%u,%u) exceeds 1024 threads or 64 in z", g.block.x,
                  g.block.y, g.block.z);
  } else if (g.dynamic_shared > (size_t{227} << 10)) {
    std::snprintf(text, sizeof text, "%zu bytes of dynamic shared memory exceed 227 KiB",
                  g.dynamic_shared);
  } else if (g.cooperative &&
             (uint64_t{g.grid.x} * g.grid.y * g.grid.z > 32 ||
              uint64_t{g.grid.x} * g.grid.y * g.grid.z * ((threads + 31) / 32) > 64)) {
    std::snprintf(text, sizeof text,
                  "a cooperative grid of %llu blocks of %llu threads does not fit on the one "
                  "multiprocessor of this device",
                  static_cast<unsigned long long>(uint64_t{g.grid.x} * g.grid.y * g.grid.z),
                  static_cast<unsigned long long>(threads));
  } else {
    return nullptr;
  }
  return text;
}

void run_grid(const Grid& grid) {
  if (runs_grid) fault("a kernel was launched from a kernel; that is not emulated");
  const std::lock_guard lock(machine_mutex());
  install_fault_handlers();
  schedule();
  machine.grid = grid;
  machine.random = machine.schedule.seed * 0x2545f4914f6cdd1dU + ++launches;
  blockDim = grid.block;
  gridDim = grid.grid;
  const uint64_t total = uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z;
  machine.threads_per_block = grid.block.x * grid.block.y * grid.block.z;
  machine.warps_per_block = (machine.threads_per_block + 31) / 32;
  uint64_t resident = grid.cooperative ? total : static_cast<uint64_t>(machine.schedule.resident);
  if (kTsan && !grid.cooperative && resident * machine.threads_per_block > kTsanThreads) {
    resident = kTsanThreads / machine.threads_per_block;
  }
  machine.resident = static_cast<int>(resident < total ? resident : total);
  place_blocks();
  order_blocks(total);
  machine.spins = 0;
  adopt_host_fiber(machine.host);
  start_arenas(grid, total);
  open_device_memory(true);
  tsan_release(&launch_order);
  machine.running = runs_grid = true;
  run_blocks(total);
  machine.running = runs_grid = false;
  machine.current = nullptr;
  tsan_acquire(&launch_end);
  check_device_canaries();
  open_device_memory(false);
  finish_arenas();
}

}  // namespace cuemu
