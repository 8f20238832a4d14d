#include "server/snapshot.h"

#include <filesystem>
#include <fstream>
#include <iterator>

namespace hypertower {
namespace {

std::string version_of(const Recommender& recommender, const std::string& path) {
  std::ifstream manifest(std::filesystem::path(path) / "manifest.json", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(manifest), {}};
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(stable_hash(bytes)));
  return recommender.schema().name + "@" + std::string(hex, 8);
}

}  // namespace

const Person* Snapshot::person(const std::string& user) const {
  const auto found = people.find(user);
  return found == people.end() ? nullptr : found->second;
}

std::shared_ptr<const Snapshot> load_snapshot(const std::string& path) {
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->recommender = Recommender::load(path);
  snapshot->path = path;
  snapshot->version = version_of(*snapshot->recommender, path);
  snapshot->loaded_at = std::chrono::system_clock::now();
  for (const Person& person : snapshot->recommender->data().people) {
    snapshot->people.emplace(person.user, &person);
  }
  return snapshot;
}

std::shared_ptr<const Snapshot> SnapshotHolder::current() const {
  const std::lock_guard lock(mutex_);
  return current_;
}

std::shared_ptr<const Snapshot> SnapshotHolder::previous() const {
  const std::lock_guard lock(mutex_);
  return previous_;
}

void SnapshotHolder::publish(std::shared_ptr<const Snapshot> next) {
  {
    const std::lock_guard lock(mutex_);
    std::swap(previous_, next);
    std::swap(current_, previous_);
  }
  // `next` is now the one that was kept for rollback: freed here, on the loader's thread, unless a
  // request still uses it.
}

bool SnapshotHolder::rollback() {
  const std::lock_guard lock(mutex_);
  if (previous_ == nullptr) return false;
  std::swap(current_, previous_);
  return true;
}

}  // namespace hypertower
