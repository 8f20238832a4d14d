// Barriers of blocks and meetings of warps.
#include "tests/cuemu/machine.h"
#include "tests/cuemu/sanitizer.h"

#include <cstring>

namespace cuemu {
namespace {

bool same_place(const Site& a, const Site& b) {
  return a.line == b.line && std::strcmp(a.what, b.what) == 0 && std::strcmp(a.file, b.file) == 0;
}

unsigned first_lane(unsigned lanes) {
  return static_cast<unsigned>(__builtin_ctz(lanes));
}

int vote_result(int votes, unsigned threads, Vote vote) {
  if (vote == Vote::kCount) return votes;
  return vote == Vote::kAnd ? votes == static_cast<int>(threads) : votes != 0;
}

// Lets the lanes go when all of the mask that still live have arrived.
void complete_if_full(Warp& warp, Meeting& meeting) {
  if ((meeting.mask & warp.live & ~meeting.arrived) != 0) return;
  meeting.complete = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (((meeting.arrived >> lane) & 1U) != 0) continue;
    for (unsigned char& byte : meeting.slots[lane].bytes) byte = 0xff;
  }
  meeting.readers = static_cast<unsigned>(__builtin_popcount(meeting.arrived));
  for (unsigned i = 0; i < warp.num_meetings; ++i) {
    if (warp.meetings[i] == &meeting) warp.meetings[i] = warp.meetings[--warp.num_meetings];
  }
  machine.spins = 0;
  const bool reverse = machine.schedule.order == Order::kReverse;
  for (unsigned i = 0; i < 32; ++i) {
    const unsigned lane = reverse ? 31 - i : i;
    if (((meeting.arrived >> lane) & 1U) == 0) continue;
    Thread* thread = warp.first + lane;
    if (thread != machine.current) make_ready(thread);
  }
}

RawArray<Meeting*> idle_meetings;

Meeting& take_meeting() {
  if (idle_meetings.empty()) {
    constexpr size_t kBatch = 64;
    auto* batch = static_cast<Meeting*>(raw_pages(kBatch * sizeof(Meeting)));
    for (size_t i = 0; i < kBatch; ++i) idle_meetings.push(batch + i);
  }
  Meeting* meeting = idle_meetings[idle_meetings.size() - 1];
  idle_meetings.remove_swap(idle_meetings.size() - 1);
  return *meeting;
}

Meeting& join(unsigned mask, Site site) {
  Thread& thread = *machine.current;
  Warp& warp = *thread.warp;
  const unsigned lane = thread.linear % 32;
  const unsigned bit = 1U << lane;
  if ((mask & bit) == 0) {
    fault("%s at %s:%d: lane %u is not in its own mask 0x%08x", site.what, site.file, site.line,
          lane, mask);
  }
  Meeting* meeting = nullptr;
  for (unsigned i = 0; i < warp.num_meetings; ++i) {
    Meeting& other = *warp.meetings[i];
    if (other.mask == mask) {
      meeting = &other;
    } else if ((other.mask & bit) != 0 && (mask & other.arrived) != 0) {
      fault("%s at %s:%d: lane %u names mask 0x%08x while lane %u waits at %s:%d with mask 0x%08x",
            site.what, site.file, site.line, lane, mask, first_lane(mask & other.arrived),
            other.site.file, other.site.line, other.mask);
    }
  }
  if (meeting == nullptr) {
    meeting = &take_meeting();
    meeting->mask = mask;
    meeting->arrived = 0;
    meeting->complete = false;
    meeting->site = site;
    warp.meetings[warp.num_meetings++] = meeting;
  } else if (!same_place(meeting->site, site)) {
    fault(
        "lanes of one warp are at different collectives: lane %u at %s (%s:%d), lane %u at %s "
        "(%s:%d), mask 0x%08x",
        first_lane(meeting->arrived), meeting->site.what, meeting->site.file, meeting->site.line,
        lane, site.what, site.file, site.line, mask);
  }
  meeting->arrived |= bit;
  thread.meeting = meeting;
  return *meeting;
}

void leave(Meeting& meeting) {
  machine.current->meeting = nullptr;
  if (--meeting.readers == 0) idle_meetings.push(&meeting);
}

// Not memcpy: sanitizers would see the kernel's values pass from thread to thread.
void copy_bytes(void* to, const void* from, unsigned bytes) {
  if (bytes == 4) {
    *static_cast<uint32_t*>(to) = *static_cast<const uint32_t*>(from);
    return;
  }
  for (unsigned i = 0; i < bytes; ++i) {
    static_cast<unsigned char*>(to)[i] = static_cast<const unsigned char*>(from)[i];
  }
}

Meeting& exchange(unsigned mask, const void* value, unsigned bytes, const Site& site) {
  Meeting& meeting = join(mask, site);
  copy_bytes(meeting.slots[machine.current->linear % 32].bytes, value, bytes);
  complete_if_full(*machine.current->warp, meeting);
  if (!meeting.complete) wait_here(State::kAtMeeting, site);
  return meeting;
}

}  // namespace

void reset_sync(Block& block) {
  block.arrived = block.generation = 0;
  block.votes = 0;
  for (NamedBarrier& barrier : block.named) barrier = {};
  const unsigned n = machine.threads_per_block;
  for (unsigned w = 0; w < machine.warps_per_block; ++w) {
    Warp& warp = block.warps[w];
    const unsigned lanes = n - 32 * w < 32 ? n - 32 * w : 32;
    warp.live = lanes == 32 ? ~0U : (1U << lanes) - 1;
    warp.first = block.threads + 32 * static_cast<size_t>(w);
    warp.num_meetings = 0;
    warp.num_masks = 0;
  }
}

int block_barrier(int predicate, Vote vote, Site site) {
  Thread& thread = *machine.current;
  Block& block = *thread.block;
  const unsigned threads = machine.threads_per_block;
  if (block.live_threads != threads) {
    fault("divergent barrier: %s at %s:%d, but %u of the block's %u threads have already exited",
          site.what, site.file, site.line, threads - block.live_threads, threads);
  }
  if (block.arrived == 0) {
    block.barrier_site = site;
    block.barrier_thread = thread.linear;
  } else if (!same_place(block.barrier_site, site)) {
    fault("divergent barrier: thread %u waits in %s at %s:%d, thread %u came to %s at %s:%d",
          block.barrier_thread, block.barrier_site.what, block.barrier_site.file,
          block.barrier_site.line, thread.linear, site.what, site.file, site.line);
  }
  const unsigned generation = block.generation;
  block.votes += predicate != 0;
  tsan_release(block_ordering(block, generation));
  if (++block.arrived == threads) {
    block.vote_result[generation & 1] = vote_result(block.votes, threads, vote);
    block.arrived = 0;
    block.votes = 0;
    ++block.generation;
    machine.spins = 0;
    make_block_ready(block, State::kAtBarrier, nullptr);
    // The last to come queues like the others, so that it has no head start.
    make_ready(&thread);
    switch_fiber(thread.fiber, machine.host);
  } else {
    wait_here(State::kAtBarrier, site);
  }
  tsan_acquire(block_ordering(block, generation));
  return block.vote_result[generation & 1];
}

void named_barrier(int id, int threads, Site site) {
  Thread& thread = *machine.current;
  Block& block = *thread.block;
  if (id < 0 || id > 15 || threads <= 0 || threads % 32 != 0 || threads > 1024) {
    fault("%s at %s:%d: barrier %d of %d threads; expected an id of 0..15 and a multiple of 32",
          site.what, site.file, site.line, id, threads);
  }
  NamedBarrier& barrier = block.named[id];
  if (barrier.arrived == 0) {
    barrier.threads = static_cast<unsigned>(threads);
    barrier.site = site;
  } else if (barrier.threads != static_cast<unsigned>(threads)) {
    fault("%s at %s:%d: barrier %d is waited for with %u threads at %s:%d, here with %d", site.what,
          site.file, site.line, id, barrier.threads, barrier.site.file, barrier.site.line, threads);
  }
  const unsigned generation = barrier.generation;
  tsan_release(named_ordering(block, id, generation));
  if (++barrier.arrived == barrier.threads) {
    barrier.arrived = 0;
    ++barrier.generation;
    machine.spins = 0;
  }
  while (barrier.generation == generation) {
    thread.site = site;
    make_ready(&thread);
    ++machine.spins;
    switch_fiber(thread.fiber, machine.host);
  }
  tsan_acquire(named_ordering(block, id, generation));
}

void shuffle(unsigned mask, const void* value, void* result, unsigned bytes, unsigned from,
             Site site) {
  Meeting& meeting = exchange(mask, value, bytes, site);
  copy_bytes(result, meeting.slots[from].bytes, bytes);
  leave(meeting);
}

unsigned all_gather(unsigned mask, const void* value, void* values, unsigned bytes, Site site) {
  Meeting& meeting = exchange(mask, value, bytes, site);
  auto* to = static_cast<unsigned char*>(values);
  for (unsigned lane = 0; lane < 32; ++lane) {
    copy_bytes(to + lane * bytes, meeting.slots[lane].bytes, bytes);
  }
  const unsigned lanes = meeting.arrived;
  leave(meeting);
  return lanes;
}

void warp_barrier(unsigned mask, Site site) {
  Meeting& meeting = join(mask, site);
  Warp& warp = *machine.current->warp;
  tsan_release(warp_ordering(warp, mask));
  complete_if_full(warp, meeting);
  if (!meeting.complete) wait_here(State::kAtMeeting, site);
  leave(meeting);
  tsan_acquire(warp_ordering(warp, mask));
}

void* warp_ordering(Warp& warp, unsigned mask) {
  unsigned i = 0;
  while (i < warp.num_masks && warp.masks[i] != mask) ++i;
  if (i == warp.num_masks) {
    if (i == 8) {
      i = mask % 8;  // shares an ordering object: may hide a race, never invents one
    } else {
      warp.masks[warp.num_masks++] = mask;
    }
  }
  Block& block = *warp.first->block;
  const size_t number = static_cast<size_t>(&warp - block.warps);
  return block.arena + kWarpOrdering + 64 * number + 8 * i;
}

void leave_warp(Thread& thread) {
  Warp& warp = *thread.warp;
  warp.live &= ~(1U << (thread.linear % 32));
  for (unsigned i = warp.num_meetings; i-- > 0;) {
    Meeting& meeting = *warp.meetings[i];
    if (meeting.arrived != 0) complete_if_full(warp, meeting);
  }
}

void check_block_exit(Thread& thread) {
  const Block& block = *thread.block;
  if (block.arrived == 0) return;
  fault("divergent barrier: thread %u exits while thread %u waits in %s at %s:%d", thread.linear,
        block.barrier_thread, block.barrier_site.what, block.barrier_site.file,
        block.barrier_site.line);
}

}  // namespace cuemu
