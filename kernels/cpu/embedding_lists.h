// How lookups and steps over several tables are cut into one parallel loop: by ids, not by bags or
// rows, so that one bag with half of the ids, or one row that everybody names, does not leave all
// other threads waiting. The cuts depend on the ids alone, never on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/embedding_backend.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {

// Lists of ids, the bags of a lookup or the runs of a plan: list i is [starts[i], starts[i + 1]).
// Work is counted in ids plus lists, so that empty lists count too.
template <class Start>
struct Lists {
  const Start* starts = nullptr;
  int64_t count = 0;

  int64_t begin(int64_t i) const { return starts[i]; }
  int64_t end(int64_t i) const { return starts[i + 1]; }
  int64_t work() const { return count == 0 ? 0 : count + starts[count]; }
  // The first list that begins at or after `position` of the work.
  int64_t at(int64_t position) const {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (starts[middle] + middle < position) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// The lists of more than kSharedIds ids, whose pieces all threads sum before the lists are taken in
// turn.
constexpr int64_t kSharedIds = 16 * kPieceIds;

struct LongList {
  int64_t list = 0;
  int64_t begin = 0;  // ids
  int64_t end = 0;
  int64_t first_piece = 0;

  int64_t pieces() const { return (end - begin + kPieceIds - 1) / kPieceIds; }
};

template <class Start>
std::vector<LongList> long_lists(const Lists<Start>& lists) {
  std::vector<LongList> found;
  int64_t pieces = 0;
  for (int64_t i = 0; i < lists.count; ++i) {
    if (lists.end(i) - lists.begin(i) <= kSharedIds) continue;
    found.push_back({i, lists.begin(i), lists.end(i), pieces});
    pieces += found.back().pieces();
  }
  return found;
}

// One parallel loop over several: body(which, begin, end) for blocks of `grain` of each count.
inline void parallel_for_all(int threads, std::span<const int64_t> counts, int64_t grain,
                             const std::function<void(size_t, int64_t, int64_t)>& body) {
  std::vector<int64_t> first(counts.size() + 1, 0);  // block of each loop
  for (size_t i = 0; i < counts.size(); ++i)
    first[i + 1] = first[i] + (counts[i] + grain - 1) / grain;
  parallel_for(threads, first.back(), 1, [&](int64_t block, int64_t) {
    const size_t which = std::upper_bound(first.begin(), first.end(), block) - first.begin() - 1;
    const int64_t begin = (block - first[which]) * grain;
    body(which, begin, std::min(begin + grain, counts[which]));
  });
}

}  // namespace hypertower::cpu
