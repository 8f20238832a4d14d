// A vocabulary that grows while it is trained on: any 64-bit ids -> rows of an embedding table of
// fixed size. The table's weights and optimizer state stay dense arrays, so lookups and steps are
// those of kernels/embedding.h; this class only says which row an id has.
//
// Rows are slots of buckets of 32. An id has two buckets by its hash (two choices keep buckets from
// filling early: Azar et al., "Balanced Allocations", 1999) and lies in the first unless that was
// nearly full when it came: with four fifths of all rows taken none has been seen to fail, with all
// of them about 3 %. `assign` takes a batch:
//   1. Ids that have rows keep them; this counts as their use.
//   2. Each other distinct id is a newcomer, in order of its first position. It is admitted once it
//      was seen `admit_after` times, this batch included; until then it has no row. Sightings are
//      counted by a sketch of fixed size (count-min with conservative update from what it held
//      before the batch, halved now and then so that it never fills up: Einziger et al., "TinyLFU",
//      2017): an id may be admitted early, never late before the first halving.
//   3. Admitted newcomers take the first free slot of their first bucket while it holds fewer than
//      28 ids; those left, of their second; the same with 30, 31 and 32. With an eviction policy
//      those left take the slot of the least valuable id of their first bucket, then of their
//      second. Value: step of the last use (kLeastRecent) or number of uses (kLeastFrequent), ties
//      by the lower row. An id used since `begin_step` is never evicted, so that gradients still
//      find the rows that their lookups had.
//   4. Those left have failed: they have no row, and the report counts them.
// The result depends on the ids alone, never on threads.
//
// Ids that lose their rows keep their sightings, so one that comes back is admitted at once.
//
// Thread-safety: `find` with itself; `assign` with nothing. Memory: 9 bytes a row, 8 more with an
// eviction policy, 8 to 16 more with admit_after > 1.
// Errors (ErrorKind::kArgument): options out of range, a saved table that does not fit them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/huge_buffer.h"

namespace hypertower {

namespace cuda {
class DeviceIdTable;
}

enum class Eviction : uint8_t { kNone, kLeastRecent, kLeastFrequent };
inline constexpr const char* kEvictionWords[] = {"none", "least_recent", "least_frequent"};

inline constexpr int64_t kMaxIdTableRows = (int64_t{1} << 31) - 32;
inline constexpr int64_t kMaxAdmitAfter = 255;

struct IdTableOptions {
  int64_t rows = 0;         // 1 to kMaxIdTableRows; rounded up to a multiple of 32
  int64_t admit_after = 1;  // 1 to kMaxAdmitAfter
  Eviction eviction = Eviction::kNone;
};

// A row that has another owner than before: its weights and optimizer state must begin anew.
struct IdTableChange {
  int64_t row = 0;
  int64_t id = 0;
  bool evicted = false;  // the row had an owner
  int64_t evicted_id = 0;
};

// Numbers of distinct ids in one batch.
struct IdTableReport {
  int64_t admitted = 0;
  int64_t evicted = 0;
  int64_t waiting = 0;  // not seen often enough yet
  int64_t failed = 0;   // no slot was free or might be taken
};

// First weights of the row of an id: uniform within 1 / sqrt(number of columns), a hash of seed, id
// and column, so that they do not depend on when the id came or which row it got.
void initial_row(int64_t id, uint64_t seed, std::span<float> row);

class IdTable {
 public:
  // All that a table knows, to go on later: of each id that has a row, ids ascending, its row and,
  // with an eviction policy, when and how often it was used.
  struct Saved {
    std::vector<int64_t> ids, rows;
    std::vector<uint32_t> last_used, uses;
    uint32_t step = 1;
    std::vector<uint8_t> sightings;
    int64_t sighted = 0;
  };

  explicit IdTable(const IdTableOptions& options);
  IdTable(const IdTableOptions& options, const Saved& saved);

  int64_t rows() const { return static_cast<int64_t>(keys_.size()); }
  int64_t size() const { return size_; }  // ids that have rows

  // rows[i] = row of ids[i], or -1. REQUIRES: threads >= 1.
  void find(std::span<const int64_t> ids, int64_t* rows, int threads = 1) const;

  // The gradients of earlier batches have been applied: what they used may be evicted.
  void begin_step() { ++step_; }

  // Rows as above. Appends to `changes` the rows that got owners, in the order of the newcomers.
  IdTableReport assign(std::span<const int64_t> ids, int64_t* rows,
                       std::vector<IdTableChange>* changes, int threads = 1);

  Saved save() const;

 private:
  friend class cuda::DeviceIdTable;

  // How often ids were seen.
  struct Sightings {
    std::vector<uint8_t> counters;  // a power of two of them, or none
    int64_t added = 0;              // since the counters were halved, and half of those before
  };
  struct Newcomer {
    int64_t id = 0;
    int64_t times = 0;
    int64_t row = -1;
    bool evicts = false;
    int64_t evicted_id = 0;
  };

  struct Slots {  // of a bucket
    int64_t first_row;
    uint32_t bits;
  };

  Slots matches(int64_t bucket, uint8_t digest) const;
  int64_t row_among(Slots slots, int64_t id) const;
  int64_t row_of(uint64_t hash, int64_t id) const;
  void use(int64_t row, int64_t times);
  int64_t free_row(int64_t bucket, int64_t quota) const;
  int64_t victim(int64_t bucket) const;
  void settle(Newcomer& newcomer, int64_t row);
  void keep_admitted(std::vector<Newcomer>& fresh);
  std::vector<Newcomer> newcomers(std::span<const int64_t> ids, const int64_t* rows) const;

  IdTableOptions options_;
  uint32_t step_ = 1;
  int64_t size_ = 0;
  HugeBuffer memory_;                // of the next two
  std::span<int64_t> keys_;          // [rows]
  std::span<uint8_t> digests_;       // [rows], 0 = free
  std::vector<uint32_t> last_used_;  // [rows], with an eviction policy
  std::vector<uint32_t> uses_;       // [rows], with an eviction policy; saturating
  Sightings sightings_;              // with admit_after > 1
};

}  // namespace hypertower
