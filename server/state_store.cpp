#include "server/state_store.h"

#include <rocksdb/db.h>
#include <rocksdb/merge_operator.h>

#include <boost/uuid/name_generator_sha1.hpp>
#include <boost/uuid/uuid.hpp>
#include <filesystem>
#include <set>
#include <unordered_map>

#include "kernels/error.h"

namespace hypertower {
namespace {

constexpr char kFormatKey[] = "format";
constexpr char kFormat[] = "hypertower state 1";
constexpr char kSeqKey[] = "seq";

// Appending without reading: RocksDB joins the pieces when somebody asks, and when it compacts.
class AppendEvents : public rocksdb::AssociativeMergeOperator {
 public:
  bool Merge(const rocksdb::Slice& /*key*/, const rocksdb::Slice* existing,
             const rocksdb::Slice& value, std::string* merged,
             rocksdb::Logger* /*log*/) const override {
    const std::string_view older = existing ? existing->ToStringView() : std::string_view();
    return concatenate_events(older, value.ToStringView(), StateStore::kMaxEvents, *merged);
  }
  const char* Name() const override { return "hypertower.AppendEvents"; }
};

// "p" and 16 bytes of SHA-1 over the id: distinct for ids that nobody built to collide.
std::string person_key(const std::string& user) {
  static constexpr boost::uuids::uuid kNamespace = {{0x1f, 0x0e, 0x9c, 0x5a, 0x27, 0xd4, 0x4b, 0x7e,
                                                     0x8a, 0x61, 0x5c, 0x39, 0xb0, 0xd2, 0x6e,
                                                     0x43}};
  const boost::uuids::uuid digest = boost::uuids::name_generator_sha1(kNamespace)(user);
  return "p" + std::string(digest.begin(), digest.end());
}

[[noreturn]] void fail(const std::string& what, const std::string& directory,
                       const rocksdb::Status& status) {
  throw Error(ErrorKind::kIo,
              "state directory '" + directory + "': cannot " + what + ": " + status.ToString());
}

rocksdb::Options database_options() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.merge_operator = std::make_shared<AppendEvents>();
  options.max_successive_merges = 32;  // bounds what one read has to join
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.info_log_level = rocksdb::ERROR_LEVEL;
  options.keep_log_file_num = 4;
  return options;
}

}  // namespace

struct StateStore::Database {
  std::unique_ptr<rocksdb::DB> db;
};

StateStore::StateStore(const std::string& directory)
    : directory_(directory), database_(std::make_unique<Database>()) {
  std::error_code failed;
  std::filesystem::create_directories(directory, failed);
  if (failed) {
    throw Error(ErrorKind::kIo,
                "state directory '" + directory + "': cannot create it: " + failed.message());
  }
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(database_options(), directory, &opened);
  if (status.IsIOError() && status.ToString().find("LOCK") != std::string::npos) {
    throw Error(ErrorKind::kIo, "state directory '" + directory +
                                    "': in use by another process, or not writable; stop that "
                                    "process or choose another directory with --state");
  }
  if (!status.ok()) fail("open it", directory, status);
  database_->db.reset(opened);

  std::string format;
  const rocksdb::Status found = opened->Get({}, kFormatKey, &format);
  if (found.IsNotFound()) {
    rocksdb::WriteOptions durable;
    durable.sync = true;
    if (const auto put = opened->Put(durable, kFormatKey, kFormat); !put.ok()) {
      fail("write to it", directory, put);
    }
  } else if (!found.ok()) {
    fail("read it", directory, found);
  } else if (format != kFormat) {
    throw Error(ErrorKind::kIo, "state directory '" + directory + "': expected '" + kFormat +
                                    "', got '" + format + "'; choose another with --state");
  }
  std::string seq;
  if (opened->Get({}, kSeqKey, &seq).ok()) seq_ = std::stoull(seq);
}

StateStore::~StateStore() {
  if (database_->db) database_->db->Close();
}

std::string StateStore::stored(const std::string& key) const {
  std::string value;
  const rocksdb::Status status = database_->db->Get({}, key, &value);
  if (!status.ok() && !status.IsNotFound()) fail("read it", directory_, status);
  return value;
}

StoredEvents StateStore::read(const std::string& user) const {
  return decode_events(stored(person_key(user)));
}

std::vector<StateStore::Appended> StateStore::append(
    std::span<const std::span<const Event>> groups) {
  const std::lock_guard lock(write_);
  std::unordered_map<std::string, std::string> additions;           // by key
  std::unordered_map<std::string, std::set<std::string>> seen_ids;  // by key
  std::vector<Appended> results;
  uint64_t seq = this->seq();
  for (const std::span<const Event> group : groups) {
    Appended& result = results.emplace_back();
    for (const Event& event : group) {
      const std::string key = person_key(event.user);
      if (!event.id.empty()) {
        auto [seen, fresh] = seen_ids.try_emplace(key);
        if (fresh) {
          for (std::string& id : decode_event_ids(stored(key))) seen->second.insert(std::move(id));
        }
        if (!seen->second.insert(event.id).second) {
          ++result.duplicates;
          continue;
        }
      }
      std::string& bytes = additions.try_emplace(key, 1, '\0').first->second;
      append_event(event, bytes);
      ++result.accepted;
      ++seq;
    }
    result.seq = seq;
  }
  if (additions.empty()) return results;

  rocksdb::WriteBatch batch;
  for (const auto& [key, bytes] : additions) batch.Merge(key, bytes);
  batch.Put(kSeqKey, std::to_string(seq));
  rocksdb::WriteOptions durable;
  durable.sync = true;
  if (const rocksdb::Status status = database_->db->Write(durable, &batch); !status.ok()) {
    database_->db
        ->Resume();  // otherwise it refuses writes for good, also once there is space again
    fail("write to it", directory_, status);
  }
  seq_.store(seq, std::memory_order_release);
  return results;
}

StateStore::Erased StateStore::erase(const std::string& user) {
  const std::string key = person_key(user);
  Erased erased;
  {
    const std::lock_guard lock(write_);
    erased.events = static_cast<int64_t>(decode_events(stored(key)).events.size());
    rocksdb::WriteOptions durable;
    durable.sync = true;
    const std::string mark(1, static_cast<char>(kErased));
    if (const auto put = database_->db->Put(durable, key, mark); !put.ok()) {
      fail("erase from it", directory_, put);
    }
    erased.seq = seq();
  }
  // The old bytes are still in the write-ahead log, until its table is flushed, and in tables.
  const rocksdb::Slice at(key);
  rocksdb::CompactRangeOptions everything;
  everything.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  rocksdb::Status status = database_->db->Flush({});
  if (status.ok()) status = database_->db->CompactRange(everything, &at, &at);
  if (!status.ok()) fail("erase from it", directory_, status);
  return erased;
}

}  // namespace hypertower
