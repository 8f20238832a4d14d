// What the emulated device API (device.h, async.h) asks of the core. The core runs each CUDA thread
// as a fiber on one OS thread; it is compiled without sanitizer instrumentation, so only what the
// kernel itself does is seen as an access. Everything in the first group may be called by a running
// CUDA thread only; a fault (a broken rule of CUDA) prints who, where and why and ends the process.
#pragma once

#include "tests/cuemu/types.h"

#include <cstddef>
#include <cstdint>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cuemu {

// The call of a synchronising function: `what` names it, the place tells calls apart.
struct Site {
  const char* what;
  const char* file;
  int line;
};

// --- Called by CUDA threads -------------------------------------------------------------------
enum class Vote : uint8_t { kCount, kAnd, kOr };

// Block barrier. Returns the vote over `predicate` of all threads.
int block_barrier(int predicate, Vote vote, Site site);
// Named barrier among `threads` threads (a multiple of 32).
void named_barrier(int id, int threads, Site site);

// Warp collectives wait for all lanes of `mask` that still live. A lane that takes no part reads as
// 0xFF bytes. Values are at most kMaxValueBytes.
inline constexpr unsigned kMaxValueBytes = 32;
// Copies every lane's value to values[32]; returns the lanes that took part.
unsigned all_gather(unsigned mask, const void* value, void* values, unsigned bytes, Site site);
// Copies the value of lane `from` to `result`.
void shuffle(unsigned mask, const void* value, void* result, unsigned bytes, unsigned from,
             Site site);
// No values, but memory is ordered between the lanes.
void warp_barrier(unsigned mask, Site site);
unsigned lane_id();

void yield(Site site);  // the body of a spin loop: lets other threads run
void preempt();         // a place where the random schedule may switch

void* shared_static(const void* key, const char* name, size_t bytes, size_t align);
void* shared_dynamic(const char* name);
size_t shared_dynamic_bytes();

// cp.async: `bytes` of 4, 8 or 16, of which the first `source_bytes` are read, the rest zeroed.
void async_copy(void* shared, const void* global, unsigned bytes, unsigned source_bytes, Site site);
void async_commit();
void async_wait(unsigned groups_left);

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site);
void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Site site);
bool mbarrier_test(uint64_t* barrier, unsigned parity, Site site);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site);
void bulk_copy(void* shared, const void* global, unsigned bytes, uint64_t* barrier, Site site);

// --- Called by host code ----------------------------------------------------------------------
struct Grid {
  dim3 grid, block;
  size_t dynamic_shared = 0;
  bool cooperative = false;
  const char* name = nullptr;  // of the kernel, may be null
  const char* file = "";       // where it was launched
  int line = 0;
  void (*thread_main)(void*) = nullptr;  // runs one CUDA thread
  void* context = nullptr;
};
// Why the configuration cannot run, or null.
const char* refusal(const Grid& grid);
// Runs the grid to its end. REQUIRES: not refused.
void run_grid(const Grid& grid);
bool in_kernel();  // true when the caller is a CUDA thread

enum class Order : uint8_t { kForward, kReverse, kRandom };
enum class Landing : uint8_t { kLazy, kEager, kRandom };
// How threads, copies and streams interleave. Read once from CUEMU_ORDER (fwd, rev, rand),
// CUEMU_SEED, CUEMU_RESIDENT (blocks alive at once), CUEMU_ASYNC (lazy, eager, rand) and
// CUEMU_STREAMS (now, late: run work when it is enqueued, or when something waits for it).
struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 1;
  int resident = 1;
  Landing landing = Landing::kLazy;
  bool late_streams = false;
};
Schedule schedule();
void set_schedule(const Schedule& schedule);

// Memory that kernels may touch. In the asan variant host code cannot read device memory outside
// HostAccess.
enum class MemoryKind : uint8_t { kPlain, kDevice, kPinned, kManaged };
void* allocate(size_t bytes, MemoryKind kind);
bool release(void* pointer, MemoryKind kind);  // false: not the start of a live allocation
MemoryKind memory_kind(const void* pointer, size_t* bytes_left = nullptr);
size_t live_bytes();
// Ends the process when a launch argument is a pointer that a device could not follow.
void check_argument(const void* pointer, int index, const Grid& grid);
// While alive, host code may touch device memory: the runtime's copies.
class HostAccess {
 public:
  HostAccess();
  ~HostAccess();
  HostAccess(const HostAccess&) = delete;
  HostAccess& operator=(const HostAccess&) = delete;
};

[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace cuemu
