// What the server remembers of people: the last kMaxEvents events of each, in an embedded RocksDB.
// A write that returned is on disk (fsync) and seen by every read that starts afterwards.
//
// One key per person, a digest of the user id, so the directory holds no ids of people. The value
// is the format of event_codec.h; appending is a merge, so a write costs the size of its events, a
// read one lookup, and erasing one overwrite.
//
// Thread-safe. Reads do not wait for writes; writes are serialised.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "server/event_codec.h"

namespace hypertower {

class StateStore {
 public:
  static constexpr size_t kMaxEvents = 256;

  // Opens or creates the directory. Errors (kIo): another process holds it, no permission, written
  // by another version, damaged.
  explicit StateStore(const std::string& directory);
  ~StateStore();

  const std::string& directory() const { return directory_; }

  // In the order of arrival; whoever reads a history puts it in order (model/history.h). Nothing
  // stored: no events, no flags. Errors (kIo).
  StoredEvents read(const std::string& user) const;

  struct Appended {
    int64_t accepted = 0;
    int64_t duplicates = 0;
    uint64_t seq = 0;  // after these events
  };
  // Appends several callers' events with one fsync; one result per group, in order. An event whose
  // id is among the last kMaxEvents events of that person, or earlier in this call, is a duplicate.
  // All or nothing. Errors (kIo): disk full and the like; nothing was appended then.
  std::vector<Appended> append(std::span<const std::span<const Event>> groups);

  struct Erased {
    int64_t events = 0;
    uint64_t seq = 0;
  };
  // Forgets the person and marks them as erased (what a model directory holds of them no longer
  // counts). On return the bytes are gone from the log and the tables. Slow: rewrites the person's
  // part of the tables. Errors (kIo).
  Erased erase(const std::string& user);

  // Events accepted since the directory was created: the latest number handed out by `append`.
  uint64_t seq() const { return seq_.load(std::memory_order_acquire); }

 private:
  struct Database;
  std::string stored(const std::string& key) const;

  std::string directory_;
  std::unique_ptr<Database> database_;
  std::mutex write_;  // guards the order of writes
  std::atomic<uint64_t> seq_{0};
};

}  // namespace hypertower
