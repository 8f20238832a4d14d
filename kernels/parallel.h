// A parallel loop whose result cannot depend on the number of threads: the blocks are fixed by
// `grain` alone, and a body may write only what belongs to its block.
#pragma once

#include <cstdint>
#include <functional>

namespace hypertower {

// Calls body(begin, end) once for each block [0, grain), [grain, 2 * grain), ... of [0, count), on
// the calling thread and at most `threads` - 1 further ones, which have left it when it returns;
// they are kept for the next loop. Loops may run at the same time, within each other, and after
// fork(). Blocks are handed out in ascending order to whichever thread is free. When bodies throw,
// no new block starts and the exception of the lowest block is rethrown: the same one on every run.
// With one thread or one block it is a plain loop. REQUIRES: threads >= 1, grain >= 1.
void parallel_for(int threads, int64_t count, int64_t grain,
                  const std::function<void(int64_t begin, int64_t end)>& body);

// From now on loops run on the threads of GNU OpenMP where this process has it loaded, as it does
// with torch. Those stay awake for milliseconds after a loop of torch, and would keep the
// processors from threads of ours. A child made by fork() goes back to ours: OpenMP's do not
// survive that.
void share_openmp_threads();

// Threads that the machine runs at once; at least 1.
int hardware_threads();

}  // namespace hypertower
