// Device memory with guard pages, and the shared memory of blocks with red zones.
#include "tests/cuemu/machine.h"
#include "tests/cuemu/sanitizer.h"

#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

namespace cuemu {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kDeviceAlign = 256;  // what cudaMalloc promises, and no more
constexpr unsigned char kCanary = 0xfc;
constexpr size_t kRedZone = 64;
// AddressSanitizer tells what it found by the poison that follows.
constexpr size_t kTail = kAsan ? kDeviceAlign : 0;
constexpr size_t kSharedLimit = size_t{227} << 10;
constexpr size_t kStaticLimit = size_t{48} << 10;
constexpr size_t kArenaSpace = size_t{64} << 30;  // address space, not memory
constexpr size_t kMaxFreed = 4096;

size_t round_up(size_t n, size_t unit) {
  return (n + unit - 1) / unit * unit;
}

struct Region {
  unsigned char* data;
  size_t bytes;
  unsigned char* pages;  // between the two guard pages
  size_t pages_bytes;
  MemoryKind kind;
};

// Freed regions stay inaccessible for a while, so that a late access is a fault.
struct Memory {
  std::map<uintptr_t, Region> live;  // by the end of the pages
  std::deque<Region> freed;
  size_t bytes = 0;
  int open = 0;
};

Memory& memory() {
  static auto* m = new Memory;  // never destroyed: freed pointers may be checked during exit
  return *m;
}

// CUDA threads must not take the lock: ThreadSanitizer would learn an ordering from it. The thread
// that runs them holds it.
class Lock {
 public:
  Lock() : taken_(!in_kernel()) {
    if (taken_) machine_mutex().lock();
  }
  ~Lock() {
    if (taken_) machine_mutex().unlock();
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  bool taken_;
};

void fill(unsigned char* p, size_t n, unsigned char value) {
  for (size_t i = 0; i < n; ++i) p[i] = value;
}

const unsigned char* first_changed(const unsigned char* p, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    if (p[i] != kCanary) return p + i;
  }
  return nullptr;
}

// Only AddressSanitizer can keep host code out cheaply.
void protect(const Region& r, bool open) {
  if (r.kind != MemoryKind::kDevice) return;
  if (open) {
    asan_unpoison(r.data, r.bytes);
  } else {
    asan_poison(r.data, r.bytes);
  }
}

const Region* find(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto it = memory().live.upper_bound(address);
  if (it == memory().live.end()) return nullptr;
  const Region& r = it->second;
  return address >= reinterpret_cast<uintptr_t>(r.pages) ? &r : nullptr;
}

unsigned char* arenas = nullptr;
size_t arena_stride = 0;
uint64_t arenas_used = 0;

[[noreturn]] void shared_overrun(const SharedObject& object, const unsigned char* at) {
  const ptrdiff_t past = at - (object.data + object.bytes);
  fault("shared memory was written %td bytes %s '%s' (%zu bytes)",
        past >= 0 ? past : object.data - at, past >= 0 ? "past the end of" : "before", object.name,
        object.bytes);
}

unsigned char* carve(Block& block, const void* key, const char* name, size_t bytes, size_t align) {
  // Aligned as promised and no better: the next larger power of two must not divide the address.
  size_t at = round_up(block.arena_used + kRedZone, align);
  if (at / align % 2 == 0) at += align;
  unsigned char* data = block.arena + at;
  fill(block.arena + block.arena_used, at - block.arena_used, kCanary);
  fill(data, bytes, 0xff);
  fill(data + bytes, kRedZone, kCanary);
  asan_unpoison(data, bytes);
  block.arena_used = at + bytes + kRedZone;
  block.shared.push({key, name, data, bytes});
  return data;
}

const char dynamic_key = 0;

}  // namespace

std::recursive_mutex& machine_mutex() {
  static auto* m = new std::recursive_mutex;
  return *m;
}

HostAccess::HostAccess() {
  open_device_memory(true);
}
HostAccess::~HostAccess() {
  open_device_memory(false);
}

void open_device_memory(bool open) {
  const Lock lock;
  Memory& m = memory();
  m.open += open ? 1 : -1;
  if (m.open != (open ? 1 : 0)) return;
  for (const auto& [end, region] : m.live) protect(region, open);
}

void* allocate(size_t bytes, MemoryKind kind) {
  const Lock lock;
  install_fault_handlers();
  Region r{};
  r.bytes = bytes;
  r.kind = kind;
  const size_t body = round_up(bytes, kDeviceAlign) + kTail;
  r.pages_bytes = round_up(body + kRedZone, kPage);
  void* mapping = mmap(nullptr, r.pages_bytes + 2 * kPage, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  r.pages = static_cast<unsigned char*>(mapping) + kPage;
  if (mprotect(r.pages, r.pages_bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;
  // At the end of the pages, so that reading past the end soon meets the guard page.
  r.data = r.pages + r.pages_bytes - body;
  fill(r.pages, static_cast<size_t>(r.data - r.pages), kCanary);
  fill(r.data, bytes, 0xff);
  unsigned char* end = r.pages + r.pages_bytes;
  fill(r.data + bytes, static_cast<size_t>(end - r.data) - bytes, kCanary);
  asan_poison(r.pages, r.pages_bytes);
  asan_unpoison(r.data, bytes);
  if (memory().open == 0) protect(r, false);
  memory().live.emplace(reinterpret_cast<uintptr_t>(end), r);
  memory().bytes += bytes;
  return r.data;
}

bool release(void* pointer, MemoryKind kind) {
  const Lock lock;
  const Region* r = find(pointer);
  if (r == nullptr || r->data != pointer || r->kind != kind) return false;
  const HostAccess access;
  check_device_canaries();
  Memory& m = memory();
  mprotect(r->pages, r->pages_bytes, PROT_NONE);
  m.freed.push_back(*r);
  m.bytes -= r->bytes;
  m.live.erase(reinterpret_cast<uintptr_t>(r->pages + r->pages_bytes));
  if (m.freed.size() > kMaxFreed) {
    const Region& oldest = m.freed.front();
    asan_unpoison(oldest.pages, oldest.pages_bytes);
    munmap(oldest.pages - kPage, oldest.pages_bytes + 2 * kPage);
    m.freed.pop_front();
  }
  return true;
}

MemoryKind memory_kind(const void* pointer, size_t* bytes_left) {
  const Lock lock;
  const Region* r = find(pointer);
  const auto* byte = static_cast<const unsigned char*>(pointer);
  if (bytes_left != nullptr) *bytes_left = 0;
  if (r == nullptr || byte < r->data || byte > r->data + r->bytes) return MemoryKind::kPlain;
  if (bytes_left != nullptr) *bytes_left = static_cast<size_t>(r->data + r->bytes - byte);
  return r->kind;
}

size_t live_bytes() {
  const Lock lock;
  return memory().bytes;
}

void check_argument(const void* pointer, int index, const Grid& grid) {
  if (pointer == nullptr || memory_kind(pointer) != MemoryKind::kPlain) return;
  machine.grid = grid;
  char note[160];
  device_region_note(pointer, note, sizeof note);
  fault("argument %d of kernel '%s' launched at %s:%d is a pointer to host memory%s", index,
        grid.name != nullptr ? grid.name : "", grid.file, grid.line, note);
}

void check_device_canaries() {
  for (const auto& [end, r] : memory().live) {
    const size_t head = static_cast<size_t>(r.data - r.pages);
    const size_t near = head < kRedZone ? head : kRedZone;
    if (first_changed(r.data - near, near) != nullptr) {
      fault("device memory was written before the start of an allocation of %zu bytes", r.bytes);
    }
    const unsigned char* tail = r.data + r.bytes;
    const size_t gap = static_cast<size_t>(r.pages + r.pages_bytes - tail);
    if (const unsigned char* at = first_changed(tail, gap)) {
      fault("device memory was written %td bytes past the end of an allocation of %zu bytes",
            at - tail, r.bytes);
    }
  }
}

void device_region_note(const void* address, char* text, size_t size) {
  const auto* byte = static_cast<const unsigned char*>(address);
  text[0] = '\0';
  auto note = [&](const Region& r, const char* state) {
    if (byte < r.pages - kPage || byte >= r.pages + r.pages_bytes + kPage) return false;
    const char* where = byte < r.data             ? "before"
                        : byte < r.data + r.bytes ? "into"
                                                  : "past the end of";
    const ptrdiff_t by = byte < r.data             ? r.data - byte
                         : byte < r.data + r.bytes ? byte - r.data
                                                   : byte - (r.data + r.bytes);
    std::snprintf(text, size, "; %td bytes %s a %s allocation of %zu bytes", by, where, state,
                  r.bytes);
    return true;
  };
  for (const auto& [end, r] : memory().live) {
    if (note(r, r.kind == MemoryKind::kDevice ? "live device" : "live")) return;
  }
  for (const Region& r : memory().freed) {
    if (note(r, "freed device")) return;
  }
  for (int i = 0; machine.running && i < machine.resident; ++i) {
    for (const SharedObject& o : machine.blocks[i].shared) {
      if (byte < o.data - kRedZone || byte >= o.data + o.bytes + kRedZone) continue;
      std::snprintf(text, size, "; offset %td of shared '%s' (%zu bytes)", byte - o.data, o.name,
                    o.bytes);
      return;
    }
  }
}

// --- Shared memory ------------------------------------------------------------------------------

void start_arenas(const Grid& grid, uint64_t num_blocks) {
  if (arenas == nullptr) {
    void* space = mmap(nullptr, kArenaSpace, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) fault("no address space for shared memory");
    arenas = static_cast<unsigned char*>(space);
  }
  arena_stride = round_up(kOrderingBytes + kStaticLimit + grid.dynamic_shared + 32 * kPage, kPage);
  // ThreadSanitizer would take a block's first writes for races with the previous owner's.
  arenas_used = kTsan ? num_blocks : static_cast<uint64_t>(machine.resident);
  if (arenas_used > kArenaSpace / arena_stride) {
    fault("a grid of %llu blocks is too large to keep their shared memory apart",
          static_cast<unsigned long long>(num_blocks));
  }
}

void finish_arenas() {
  for (uint64_t i = 0; i < arenas_used; ++i) {
    asan_unpoison(arenas + i * arena_stride, arena_stride);
  }
  if (kTsan) syscall(SYS_madvise, arenas, arenas_used * arena_stride, MADV_DONTNEED);
}

void start_shared(Block& block, int slot, uint64_t sequence) {
  block.arena = arenas + arena_stride * (kTsan ? sequence : static_cast<uint64_t>(slot));
  block.arena_used = kOrderingBytes;
  block.static_bytes = 0;
  block.shared.clear();
  block.mbarriers.clear();
  block.bulk.clear();
  asan_poison(block.arena, arena_stride);
}

void finish_shared(Block& block) {
  for (const SharedObject& object : block.shared) {
    if (const unsigned char* at = first_changed(object.data - kRedZone, kRedZone)) {
      shared_overrun(object, at);
    }
    if (const unsigned char* at = first_changed(object.data + object.bytes, kRedZone)) {
      shared_overrun(object, at);
    }
  }
}

void* shared_static(const void* key, const char* name, size_t bytes, size_t align) {
  Block& block = *machine.current->block;
  for (const SharedObject& object : block.shared) {
    if (object.key == key) return object.data;
  }
  block.static_bytes += round_up(bytes, 16);
  if (block.static_bytes > kStaticLimit) {
    fault("static shared memory exceeds 48 KiB with '%s' (%zu bytes); use DYN_SHARED", name, bytes);
  }
  if (block.static_bytes + machine.grid.dynamic_shared > kSharedLimit) {
    fault("shared memory exceeds 227 KiB: %zu bytes static with '%s', %zu bytes dynamic",
          block.static_bytes, name, machine.grid.dynamic_shared);
  }
  return carve(block, key, name, bytes, align);
}

void* shared_dynamic(const char* name) {
  Block& block = *machine.current->block;
  for (const SharedObject& object : block.shared) {
    if (object.key == &dynamic_key) return object.data;
  }
  return carve(block, &dynamic_key, name, machine.grid.dynamic_shared, 128);
}

size_t shared_dynamic_bytes() {
  return machine.grid.dynamic_shared;
}

bool shared_contains(Block& block, const void* pointer, size_t bytes) {
  const auto* byte = static_cast<const unsigned char*>(pointer);
  for (const SharedObject& object : block.shared) {
    if (byte >= object.data && byte + bytes <= object.data + object.bytes) return true;
  }
  return false;
}

}  // namespace cuemu
