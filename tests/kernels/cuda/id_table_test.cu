// The table on the device against the one of the CPU, which tests/kernels/id_table_test.cpp holds
// against a model: rows, reports, changes and everything saved must be the same.
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/id_table.h"
#include "kernels/id_table_layout.h"
#include "tests/cuemu/device_array.h"

namespace hypertower {
namespace {

using testing::DeviceArray;
using Ids = std::vector<int64_t>;

constexpr Eviction kEvictions[] = {Eviction::kNone, Eviction::kLeastRecent,
                                   Eviction::kLeastFrequent};

void expect_equal(const IdTable::Saved& a, const IdTable::Saved& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.last_used, b.last_used);
  EXPECT_EQ(a.uses, b.uses);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.sightings, b.sightings);
  EXPECT_EQ(a.sighted, b.sighted);
}

// Both tables, batch by batch.
class Pair {
 public:
  explicit Pair(const IdTableOptions& options)
      : options_(options), host_(options), device_(std::in_place, options, nullptr) {}

  IdTableReport assign(const Ids& ids) {
    host_.begin_step();
    device_->begin_step();
    Ids expected(ids.size());
    std::vector<IdTableChange> changes, device_changes;
    const IdTableReport report = host_.assign(ids, expected.data(), &changes);
    const DeviceArray<int64_t> device_ids(ids);
    const DeviceArray<int64_t> rows(ids.size());
    const auto n = static_cast<int64_t>(ids.size());
    const IdTableReport got = device_->assign(device_ids.data(), n, rows.data(), &device_changes);
    EXPECT_EQ(rows.to_host(), expected);
    EXPECT_EQ(got.admitted, report.admitted);
    EXPECT_EQ(got.evicted, report.evicted);
    EXPECT_EQ(got.waiting, report.waiting);
    EXPECT_EQ(got.failed, report.failed);
    EXPECT_EQ(device_changes.size(), changes.size());
    for (size_t i = 0; i < changes.size() && i < device_changes.size(); ++i) {
      EXPECT_EQ(device_changes[i].row, changes[i].row);
      EXPECT_EQ(device_changes[i].id, changes[i].id);
      EXPECT_EQ(device_changes[i].evicted, changes[i].evicted);
      EXPECT_EQ(device_changes[i].evicted_id, changes[i].evicted_id);
    }
    EXPECT_EQ(device_->size(), host_.size());
    device_->find(device_ids.data(), n, rows.data());
    EXPECT_EQ(rows.to_host(), expected);
    return report;
  }
  void expect_same() const { expect_equal(device_->save(), host_.save()); }
  void save_and_go_on() { device_.emplace(options_, device_->save(), nullptr); }

 private:
  IdTableOptions options_;
  IdTable host_;
  std::optional<cuda::DeviceIdTable> device_;
};

TEST(CudaIdTable, IsTheTableOfTheCpu) {
  for (const Eviction eviction : kEvictions) {
    for (const int64_t admit_after : {1, 3}) {
      for (const int64_t rows : {32, 160}) {
        SCOPED_TRACE(::testing::Message() << "eviction " << static_cast<int>(eviction) << " rows "
                                          << rows << " admit_after " << admit_after);
        std::mt19937_64 random(static_cast<uint64_t>(rows));
        Pair tables({rows, admit_after, eviction});
        for (int step = 0; step < 12; ++step) {
          Ids ids(90);
          for (int64_t& id : ids) {
            const auto skewed = static_cast<int64_t>(random() % (random() % (3 * rows) + 1));
            id = skewed * skewed - 5;
          }
          tables.assign(ids);
          if (step == 6) tables.save_and_go_on();
        }
        tables.expect_same();
      }
    }
  }
}

TEST(CudaIdTable, TakesEveryId) {
  Pair tables({64, 1, Eviction::kNone});
  EXPECT_EQ(tables
                .assign({0, -1, 1, std::numeric_limits<int64_t>::min(),
                         std::numeric_limits<int64_t>::max()})
                .admitted,
            5);
  EXPECT_EQ(tables.assign({}).admitted, 0);
  tables.expect_same();
}

TEST(CudaIdTable, OneIdFromEveryThread) {
  Pair tables({64, 2, Eviction::kLeastFrequent});
  EXPECT_EQ(tables.assign(Ids(700, 42)).admitted, 1);
  EXPECT_EQ(tables.assign(Ids(700, 42)).admitted, 0);
  tables.expect_same();
}

// More ids of one bucket than it has slots: the rest goes to second buckets, fails, or evicts.
TEST(CudaIdTable, ManyIdsOfOneBucket) {
  for (const Eviction eviction : kEvictions) {
    Pair tables({128, 1, eviction});
    Ids ids;
    for (int64_t id = 0; ids.size() < 150; ++id) {
      if (id_table::first_bucket(id_table::hash(id), 4) == 2) ids.push_back(id);
    }
    EXPECT_GT(tables.assign(ids).failed, 0);
    Ids others(ids.begin() + 60, ids.end());
    tables.assign(others);
    tables.assign(ids);
    tables.expect_same();
  }
}

// Single sightings until the counters are halved.
TEST(CudaIdTable, HalvesItsCounters) {
  Pair tables({32, 4, Eviction::kNone});
  int64_t next = 0;
  for (int step = 0; step < 4; ++step) {
    Ids ids(100);
    for (int64_t& id : ids) id = next++;
    tables.assign(ids);
  }
  tables.expect_same();
}

}  // namespace
}  // namespace hypertower
