// Copies that land later than they are issued: cp.async, and bulk copies with their mbarriers.
#include "tests/cuemu/machine.h"
#include "tests/cuemu/sanitizer.h"

namespace cuemu {
namespace {

constexpr uint64_t kMbarrierCookie = 0x6d62'6172'7269'0000U;  // its low half is the table index

void check_ends(const char* what, const void* shared, unsigned bytes, const void* global,
                unsigned global_bytes, unsigned align, const Site& site) {
  Block& block = *machine.current->block;
  const auto misplaced = reinterpret_cast<uintptr_t>(shared) % align != 0 ||
                         reinterpret_cast<uintptr_t>(global) % align != 0;
  if (misplaced) {
    fault("%s at %s:%d: addresses must be multiples of %u bytes, got shared %p and global %p", what,
          site.file, site.line, align, shared, global);
  }
  if (!shared_contains(block, shared, bytes)) {
    fault("%s at %s:%d: the destination is not within one shared array", what, site.file,
          site.line);
  }
  size_t left = 0;
  if (global_bytes != 0 &&
      (memory_kind(global, &left) == MemoryKind::kPlain || left < global_bytes)) {
    char note[160];
    device_region_note(global, note, sizeof note);
    fault("%s at %s:%d: %u bytes of source are not within one device allocation%s", what, site.file,
          site.line, global_bytes, note);
  }
}

void land(AsyncCopy& copy) {
  for (unsigned i = 0; i < copy.bytes; ++i) {
    copy.destination[i] = i < copy.source_bytes ? copy.source[i] : 0;
  }
  copy.landed = true;
}

// To ThreadSanitizer a copy is done by an engine: after what its thread did before `issued`, and
// before what comes after waiting for `finished`.
void run_engine(Block& block, const void* issued, void* destination, unsigned bytes,
                const void* source, unsigned source_bytes, void* finished, void* pc) {
  if (!kTsan) return;
  if (block.copy_engine == nullptr) {
    block.copy_engine = tsan_create_fiber();
    tsan_name_fiber(block.copy_engine, "asynchronous copy");
  }
  void* back = tsan_current_fiber();
  tsan_switch_to_fiber(block.copy_engine);
  tsan_acquire(issued);
  if (source_bytes != 0) tsan_read(source, source_bytes, pc);
  tsan_write(destination, bytes, pc);
  tsan_release(finished);
  tsan_switch_to_fiber(back);
}

bool lands_at_issue() {
  const Landing landing = machine.schedule.landing;
  return landing == Landing::kEager || (landing == Landing::kRandom && random_number() % 2 == 0);
}

Mbarrier& mbarrier_at(uint64_t* address, const Site& site) {
  Block& block = *machine.current->block;
  if (!shared_contains(block, address, 8) || reinterpret_cast<uintptr_t>(address) % 8 != 0) {
    fault("%s at %s:%d: an mbarrier is 8 aligned bytes of shared memory", site.what, site.file,
          site.line);
  }
  tsan_read(address, 8, __builtin_return_address(0));
  const uint64_t index = *address & 0xffff;
  if ((*address & ~uint64_t{0xffff}) != kMbarrierCookie || index >= block.mbarriers.size() ||
      block.mbarriers[index].address != address) {
    fault("%s at %s:%d: the mbarrier was never initialised, or overwritten", site.what, site.file,
          site.line);
  }
  return block.mbarriers[index];
}

void finish_phase_if_done(Block& block, Mbarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  barrier.pending = barrier.arrivals;
  barrier.phase ^= 1;
  machine.spins = 0;
  make_block_ready(block, State::kAtMbarrier, nullptr);
}

}  // namespace

void async_copy(void* shared, const void* global, unsigned bytes, unsigned source_bytes,
                Site site) {
  check_ends("cp.async", shared, bytes, global, source_bytes, bytes, site);
  Thread& thread = *machine.current;
  AsyncCopy copy{static_cast<unsigned char*>(shared),
                 static_cast<const unsigned char*>(global),
                 bytes,
                 source_bytes,
                 thread.open_group,
                 false,
                 site,
                 __builtin_return_address(0)};
  // The thread itself counts as writing at once: others must have finished with the destination.
  tsan_write(copy.destination, bytes, copy.pc);
  void* ordering = group_ordering(thread, copy.group);
  tsan_release(ordering);
  run_engine(*thread.block, ordering, copy.destination, bytes, copy.source, source_bytes, ordering,
             copy.pc);
  if (lands_at_issue()) land(copy);
  thread.copies.push(copy);
}

void async_commit() {
  ++machine.current->open_group;
}

void async_wait(unsigned groups_left) {
  Thread& thread = *machine.current;
  for (size_t i = 0; i < thread.copies.size();) {
    AsyncCopy& copy = thread.copies[i];
    if (copy.group + groups_left >= thread.open_group) {
      ++i;
      continue;
    }
    tsan_acquire(group_ordering(thread, copy.group));
    if (!copy.landed) land(copy);
    thread.copies.remove_swap(i);
  }
}

void check_async_exit(Thread& thread) {
  if (thread.copies.empty()) return;
  const Site& site = thread.copies[0].site;
  fault("cp.async at %s:%d was never waited for%s", site.file, site.line,
        thread.copies[0].group == thread.open_group ? " (its group was not committed)" : "");
}

void mbarrier_init(uint64_t* barrier, unsigned arrivals, Site site) {
  Block& block = *machine.current->block;
  if (!shared_contains(block, barrier, 8) || reinterpret_cast<uintptr_t>(barrier) % 8 != 0 ||
      arrivals == 0) {
    fault("%s at %s:%d: an mbarrier is 8 aligned bytes of shared memory and counts at least 1",
          site.what, site.file, site.line);
  }
  size_t index = 0;
  while (index < block.mbarriers.size() && block.mbarriers[index].address != barrier) ++index;
  if (index == block.mbarriers.size()) block.mbarriers.push({});
  block.mbarriers[index] = {barrier, arrivals, arrivals, 0, 0};
  tsan_write(barrier, 8, __builtin_return_address(0));
  *barrier = kMbarrierCookie | index;
}

void mbarrier_arrive(uint64_t* address, unsigned expected_bytes, Site site) {
  Mbarrier& barrier = mbarrier_at(address, site);
  tsan_release(address);
  barrier.bytes += expected_bytes;
  if (barrier.pending == 0) {
    fault("%s at %s:%d: more arrivals than the %u that the mbarrier was initialised with",
          site.what, site.file, site.line, barrier.arrivals);
  }
  --barrier.pending;
  finish_phase_if_done(*machine.current->block, barrier);
}

bool mbarrier_test(uint64_t* address, unsigned parity, Site site) {
  const bool done = mbarrier_at(address, site).phase != (parity & 1);
  if (done) tsan_acquire(address);
  return done;
}

void mbarrier_wait(uint64_t* address, unsigned parity, Site site) {
  while (!mbarrier_test(address, parity, site)) wait_here(State::kAtMbarrier, site);
}

void bulk_copy(void* shared, const void* global, unsigned bytes, uint64_t* address, Site site) {
  if (bytes == 0 || bytes % 16 != 0) {
    fault("cp.async.bulk at %s:%d: %u bytes; expected a positive multiple of 16", site.file,
          site.line, bytes);
  }
  check_ends("cp.async.bulk", shared, bytes, global, bytes, 16, site);
  mbarrier_at(address, site);
  Block& block = *machine.current->block;
  tsan_release(shared);  // the copy starts after what this thread did before
  block.bulk.push({static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global),
                   bytes, address, site, __builtin_return_address(0)});
  if (lands_at_issue()) land_bulk_copy(block);
}

bool land_bulk_copy(Block& block) {
  if (block.bulk.empty()) return false;
  const size_t chosen =
      machine.schedule.landing == Landing::kRandom ? random_number() % block.bulk.size() : 0;
  const BulkCopy copy = block.bulk[chosen];
  block.bulk.remove_swap(chosen);
  run_engine(block, copy.destination, copy.destination, copy.bytes, copy.source, copy.bytes,
             copy.barrier, copy.pc);
  for (unsigned i = 0; i < copy.bytes; ++i) copy.destination[i] = copy.source[i];
  for (Mbarrier& barrier : block.mbarriers) {
    if (barrier.address != copy.barrier) continue;
    barrier.bytes -= copy.bytes;
    finish_phase_if_done(block, barrier);
  }
  return true;
}

void check_bulk_exit(Block& block) {
  if (block.bulk.empty()) return;
  fault("cp.async.bulk at %s:%d had not landed when its block ended", block.bulk[0].site.file,
        block.bulk[0].site.line);
}

}  // namespace cuemu
