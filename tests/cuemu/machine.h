// The state of the emulated device. Private to the core; only the thread that runs a grid touches
// it (run_grid holds a lock). Nothing here allocates from the heap while CUDA threads run: the
// sanitizers would take that for accesses of the kernel.
#pragma once

#include "tests/cuemu/core.h"
#include "tests/cuemu/fiber.h"
#include "tests/cuemu/raw_array.h"

#include <cstddef>
#include <cstdint>
#include <mutex>

namespace cuemu {

enum class State : uint8_t { kReady, kAtBarrier, kAtMeeting, kAtMbarrier, kExited };

struct Block;
struct Meeting;
struct Warp;

struct AsyncCopy {
  unsigned char* destination;
  const unsigned char* source;
  unsigned bytes, source_bytes;
  unsigned group;
  bool landed;
  Site site;
  void* pc;
};

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint3 index{};
  unsigned linear = 0;  // in the block
  State state = State::kReady;
  Site site{};  // where it waits or last spun
  Meeting* meeting = nullptr;
  bool spun = false;
  RawArray<AsyncCopy> copies;  // cp.async not yet waited for
  unsigned open_group = 0;
};

struct alignas(16) Slot {
  unsigned char bytes[kMaxValueBytes];
};

// One rendezvous of the lanes of `mask`.
struct Meeting {
  unsigned mask = 0;
  unsigned arrived = 0;
  unsigned readers = 0;
  bool complete = false;
  bool used = false;
  Site site{};
  Slot slots[32];
};

struct Warp {
  unsigned live = 0;  // bit per lane that has not exited
  Thread* first = nullptr;
  Meeting* meetings[32];  // waiting for lanes
  unsigned num_meetings = 0;
  unsigned masks[8];  // of warp barriers, so that each mask has its own ordering object
  unsigned num_masks = 0;
};

struct SharedObject {
  const void* key;
  const char* name;
  unsigned char* data;
  size_t bytes;
};

struct NamedBarrier {
  unsigned threads = 0, arrived = 0, generation = 0;
  Site site{};
};

struct BulkCopy {
  unsigned char* destination;
  const unsigned char* source;
  unsigned bytes;
  uint64_t* barrier;
  Site site;
  void* pc;
};

struct Mbarrier {
  uint64_t* address;
  unsigned arrivals;  // of each phase
  unsigned pending;
  int64_t bytes;  // expected and not yet landed
  unsigned phase;
};

struct Block {
  bool alive = false;
  uint3 index{};
  unsigned live_threads = 0;
  Thread* threads = nullptr;
  Warp* warps = nullptr;
  // Block barrier; results alternate because a released thread may read late.
  unsigned arrived = 0, generation = 0;
  Site barrier_site{};
  unsigned barrier_thread = 0;  // the first that arrived
  int votes = 0;
  int vote_result[2] = {0, 0};
  NamedBarrier named[16];
  unsigned char* arena = nullptr;  // ordering objects, then shared memory
  size_t arena_used = 0;
  size_t static_bytes = 0;
  RawArray<SharedObject> shared;
  RawArray<Mbarrier> mbarriers;
  RawArray<BulkCopy> bulk;
  void* copy_engine = nullptr;  // ThreadSanitizer's context of asynchronous copies
};

struct Machine {
  Grid grid;
  bool running = false;
  Fiber host;
  Thread* current = nullptr;
  unsigned threads_per_block = 0, warps_per_block = 0;
  int resident = 0;
  Schedule schedule;
  uint64_t random = 0;
  // Ready threads: a ring, each thread in it at most once.
  Thread** ready = nullptr;
  size_t ready_first = 0, ready_count = 0;
  uint64_t spins = 0;       // yields since anything else happened
  Block* blocks = nullptr;  // [resident]
};
extern Machine machine;
// Guards all of it: held while a grid runs and by every host call.
std::recursive_mutex& machine_mutex();

uint64_t random_number();
void make_ready(Thread* thread);
void make_block_ready(Block& block, State waiting_in, Thread* except);
void wait_here(State state, Site site);  // switches to the scheduler until made ready
void set_current(Thread* thread);

void reset_sync(Block& block);
void leave_warp(Thread& thread);  // the thread has exited
void check_block_exit(Thread& thread);
void start_shared(Block& block, int slot, uint64_t sequence);
void finish_shared(Block& block);
void start_arenas(const Grid& grid, uint64_t num_blocks);
void finish_arenas();
void check_device_canaries();
void open_device_memory(bool open);
bool shared_contains(Block& block, const void* pointer, size_t bytes);
void check_async_exit(Thread& thread);
void check_bulk_exit(Block& block);
bool land_bulk_copy(Block& block);

// Addresses that stand for orderings in ThreadSanitizer; fresh for each block of a grid.
inline constexpr size_t kWarpOrdering = 512;    // offset; 64 bytes a warp
inline constexpr size_t kGroupOrdering = 4096;  // offset; 32 bytes a thread
inline constexpr size_t kOrderingBytes = kGroupOrdering + 32 * 1024;
inline void* block_ordering(Block& block, unsigned generation) {
  return block.arena + 8 * (generation & 1);
}
void* warp_ordering(Warp& warp, unsigned mask);
// Of a thread's cp.async groups; four, so that a wait for one does not order the next.
inline void* group_ordering(const Thread& thread, unsigned group) {
  return thread.block->arena + kGroupOrdering + 32 * thread.linear + 8 * (group % 4);
}
inline void* named_ordering(Block& block, int id, unsigned generation) {
  return block.arena + 16 + 16 * id + 8 * (generation & 1);
}

void install_fault_handlers();
void describe_waiting_threads();
// Says which allocation or shared array `address` lies in or near; empty if none.
void device_region_note(const void* address, char* text, size_t size);

}  // namespace cuemu
