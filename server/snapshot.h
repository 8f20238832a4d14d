// Everything one answer depends on besides the state, and its atomic exchange.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "model/recommender.h"

namespace hypertower {

// A loaded and validated model directory. Immutable.
struct Snapshot {
  std::shared_ptr<const Recommender> recommender;
  std::string path;
  // "name@1f2e3d4c": the model's name and a hash of its manifest, which holds the checksums of all
  // the rest. Equal on every server that serves the same directory.
  std::string version;
  std::chrono::system_clock::time_point loaded_at;
  std::unordered_map<std::string_view, const Person*> people;  // into recommender->data()

  const Person* person(const std::string& user) const;
};

// Reads the directory and checks its golden answers. Errors (kModel).
std::shared_ptr<const Snapshot> load_snapshot(const std::string& path);

// The snapshot in service and the one before it. Thread-safe.
class SnapshotHolder {
 public:
  // Null until the first publish.
  std::shared_ptr<const Snapshot> current() const;
  std::shared_ptr<const Snapshot> previous() const;

  // Requests that start afterwards see `next`; those under way finish on what they have. The
  // present snapshot is kept for rollback.
  void publish(std::shared_ptr<const Snapshot> next);
  // Exchanges present and previous. False when there is no previous.
  bool rollback();

 private:
  // A mutex around two pointers: about 20 ns a request. std::atomic<std::shared_ptr> of the
  // compilers that we support is a spin lock inside, and ThreadSanitizer cannot see through it.
  mutable std::mutex mutex_;
  std::shared_ptr<const Snapshot> current_;
  std::shared_ptr<const Snapshot> previous_;
};

}  // namespace hypertower
