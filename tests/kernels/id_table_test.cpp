// The growing vocabulary against a plain model of its rules, which keeps whole buckets as lists.
#include "kernels/id_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "kernels/id_table_layout.h"

namespace hypertower::test {
namespace {

using Ids = std::vector<int64_t>;
constexpr Eviction kEvictions[] = {Eviction::kNone, Eviction::kLeastRecent,
                                   Eviction::kLeastFrequent};

struct Step {
  Ids rows;
  std::vector<IdTableChange> changes;
  IdTableReport report;
};

Step assign(IdTable& table, const Ids& ids, int threads = 1) {
  Step step;
  step.rows.resize(ids.size());
  table.begin_step();
  step.report = table.assign(ids, step.rows.data(), &step.changes, threads);
  return step;
}

Ids find(const IdTable& table, const Ids& ids) {
  Ids rows(ids.size());
  table.find(ids, rows.data());
  return rows;
}

void expect_equal(const IdTable::Saved& a, const IdTable::Saved& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.last_used, b.last_used);
  EXPECT_EQ(a.uses, b.uses);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.sightings, b.sightings);
  EXPECT_EQ(a.sighted, b.sighted);
}

// What kernels/id_table.h says, with admit_after = 1, word for word.
class Model {
 public:
  Model(int64_t rows, Eviction eviction) : owners_(rows), eviction_(eviction) {}

  Ids assign(const Ids& ids) {
    ++step_;
    std::map<int64_t, int64_t> times;
    Ids fresh;
    for (const int64_t id : ids) {
      if (row_of(id) >= 0) {
        use(row_of(id), 1);
      } else if (times[id]++ == 0) {
        fresh.push_back(id);
      }
    }
    const int64_t quotas[] = {28, 28, 30, 30, 31, 31, 32, 32};
    for (int round = 0; round < 10; ++round) {
      for (const int64_t id : fresh) {
        if (row_of(id) >= 0) continue;
        const int64_t buckets = static_cast<int64_t>(owners_.size()) / 32;
        const uint64_t hash = id_table::hash(id);
        const int64_t bucket = round % 2 == 0 ? id_table::first_bucket(hash, buckets)
                                              : id_table::second_bucket(hash, buckets);
        const int64_t row = round < 8 ? free_row(bucket, quotas[round]) : victim(bucket);
        if (row < 0) continue;
        rows_.erase(owners_[row].id);
        owners_[row] = {id, true};
        rows_[id] = row;
        use(row, times[id]);
      }
    }
    Ids rows;
    for (const int64_t id : ids) rows.push_back(row_of(id));
    return rows;
  }

 private:
  struct Owner {
    int64_t id = 0;
    bool taken = false;
    int64_t used = 0, uses = 0;
  };

  int64_t row_of(int64_t id) const {
    const auto at = rows_.find(id);
    return at == rows_.end() || owners_[at->second].id != id ? -1 : at->second;
  }
  void use(int64_t row, int64_t times) {
    owners_[row].used = step_;
    owners_[row].uses += times;
  }
  int64_t free_row(int64_t bucket, int64_t quota) const {
    for (int64_t r = bucket * 32; r < bucket * 32 + quota; ++r) {
      if (!owners_[r].taken) return r;
    }
    return -1;
  }
  int64_t victim(int64_t bucket) const {
    int64_t best = -1;
    if (eviction_ == Eviction::kNone) return best;
    const auto value = [&](int64_t r) {
      return eviction_ == Eviction::kLeastRecent ? owners_[r].used : owners_[r].uses;
    };
    for (int64_t r = bucket * 32; r < bucket * 32 + 32; ++r) {
      if (owners_[r].used != step_ && (best < 0 || value(r) < value(best))) best = r;
    }
    return best;
  }

  std::vector<Owner> owners_;
  std::map<int64_t, int64_t> rows_;
  Eviction eviction_;
  int64_t step_ = 0;
};

TEST(IdTable, FollowsTheModel) {
  for (const Eviction eviction : kEvictions) {
    for (const int64_t rows : {32, 96, 640}) {
      std::mt19937_64 random(static_cast<uint64_t>(rows));
      IdTable table({rows, 1, eviction});
      IdTable on_threads({rows, 1, eviction});
      Model model(rows, eviction);
      for (int step = 0; step < 60; ++step) {
        Ids ids;
        for (int i = 0; i < 100; ++i) {
          const auto skewed = static_cast<int64_t>(random() % (random() % (3 * rows) + 1));
          ids.push_back(skewed * skewed - 5);
        }
        const Step got = assign(table, ids);
        ASSERT_EQ(got.rows, model.assign(ids)) << rows << " step " << step;
        ASSERT_EQ(assign(on_threads, ids, 4).rows, got.rows);
        ASSERT_EQ(find(table, ids), got.rows);
      }
      expect_equal(table.save(), on_threads.save());
      EXPECT_EQ(static_cast<int64_t>(table.save().ids.size()), table.size());
    }
  }
}

TEST(IdTable, ChangesAndReportAddUp) {
  IdTable table({320, 1, Eviction::kLeastFrequent});
  std::map<int64_t, int64_t> owner;  // by row, kept from the changes alone
  std::mt19937_64 random(7);
  for (int step = 0; step < 50; ++step) {
    Ids ids(200);
    for (int64_t& id : ids) id = static_cast<int64_t>(random() % 900);
    const std::set<int64_t> distinct(ids.begin(), ids.end());
    const Step got = assign(table, ids);
    int64_t evicted = 0;
    for (const IdTableChange& c : got.changes) {
      EXPECT_EQ(owner.contains(c.row), c.evicted);
      if (c.evicted) {
        EXPECT_EQ(owner[c.row], c.evicted_id);
        EXPECT_FALSE(distinct.contains(c.evicted_id)) << "used in this very step";
        ++evicted;
      }
      owner[c.row] = c.id;
    }
    EXPECT_EQ(got.report.admitted, static_cast<int64_t>(got.changes.size()));
    EXPECT_EQ(got.report.evicted, evicted);
    EXPECT_EQ(got.report.waiting, 0);
    std::set<int64_t> without;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (got.rows[i] < 0) {
        without.insert(ids[i]);
      } else {
        EXPECT_EQ(owner[got.rows[i]], ids[i]);
      }
    }
    EXPECT_EQ(got.report.failed, static_cast<int64_t>(without.size()));
  }
  EXPECT_EQ(static_cast<int64_t>(owner.size()), table.size());
}

TEST(IdTable, KeepsWhatWasUsedSinceTheStepBegan) {
  IdTable table({32, 1, Eviction::kLeastRecent});
  Ids ids(32);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  assign(table, ids);
  std::vector<IdTableChange> changes;
  int64_t row = 0;
  const Ids stranger = {100};
  EXPECT_EQ(table.assign(stranger, &row, &changes).failed, 1);
  EXPECT_EQ(row, -1);
  table.begin_step();
  EXPECT_EQ(table.assign(stranger, &row, &changes).evicted, 1);
  EXPECT_EQ(row, 0) << "of the least recent the lowest row";
}

TEST(IdTable, FirstWeightsAreThoseOfTheId) {
  std::vector<float> row(64), again(64), other(64);
  double sum = 0;
  for (int64_t id = -500; id < 500; ++id) {
    initial_row(id, 7, row);
    initial_row(id, 7, again);
    initial_row(id + 1, 7, other);
    EXPECT_EQ(row, again);
    EXPECT_NE(row, other);
    for (const float x : row) {
      EXPECT_LE(std::abs(x), 0.125F);
      sum += x;
    }
  }
  EXPECT_NEAR(sum / 64'000, 0.0, 0.002);
  initial_row(3, 8, row);
  initial_row(3, 7, again);
  EXPECT_NE(row, again);
}

TEST(IdTable, TakesEveryId) {
  IdTable table({64});
  const Ids ids = {0, -1, 1, std::numeric_limits<int64_t>::min(),
                   std::numeric_limits<int64_t>::max()};
  EXPECT_EQ(find(table, ids), Ids(5, -1)) << "an empty table has nobody, not even id 0";
  const Step step = assign(table, ids);
  EXPECT_EQ(std::set<int64_t>(step.rows.begin(), step.rows.end()).size(), 5U);
  EXPECT_EQ(find(table, ids), step.rows);
  EXPECT_EQ(assign(table, {}).report.admitted, 0);
}

TEST(IdTable, AdmitsWhatWasSeenOftenEnough) {
  IdTable table({320, 3, Eviction::kNone});
  Step step = assign(table, {5, 5, 9});
  EXPECT_EQ(step.rows, Ids(3, -1));
  EXPECT_EQ(step.report.waiting, 2);
  step = assign(table, {5, 9});
  EXPECT_GE(step.rows[0], 0);
  EXPECT_EQ(step.rows[1], -1);
  EXPECT_EQ(step.report.admitted, 1);
  EXPECT_GE(assign(table, {9}).rows[0], 0);
}

// Millions of ids that come once: the sketch is halved again and again and lets few of them in.
TEST(IdTable, RareIdsStayOut) {
  IdTable table({1024, 4, Eviction::kLeastRecent});
  int64_t admitted = 0, next = 0;
  for (int step = 0; step < 200; ++step) {
    Ids ids(2000);
    for (int64_t& id : ids) id = next++;
    admitted += assign(table, ids).report.admitted;
  }
  EXPECT_LT(admitted, next / 10);
}

TEST(IdTable, FillsEvenly) {
  IdTable table({320'000});
  Ids ids(320'000);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i) * 7919;
  const Ids most(ids.begin(), ids.begin() + 256'000);
  EXPECT_EQ(assign(table, most).report.failed, 0);
  EXPECT_LT(assign(table, ids).report.failed, 320'000 * 4 / 100);
}

TEST(IdTable, WithoutEvictionAFullTableSaysSo) {
  IdTable table({32});
  Ids ids(40);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  const Step step = assign(table, ids);
  EXPECT_EQ(step.report.admitted, 32);
  EXPECT_EQ(step.report.failed, 8);
  EXPECT_EQ(std::count(step.rows.begin(), step.rows.end(), -1), 8);
  EXPECT_EQ(table.size(), 32);
}

TEST(IdTable, GoesOnWhereItWasSaved) {
  for (const Eviction eviction : kEvictions) {
    for (const int64_t admit_after : {1, 3}) {
      const IdTableOptions options{160, admit_after, eviction};
      IdTable whole(options);
      std::mt19937_64 random(3);
      const auto batch = [&] {
        Ids ids(90);
        for (int64_t& id : ids) id = static_cast<int64_t>(random() % 400) - 200;
        return ids;
      };
      for (int step = 0; step < 20; ++step) assign(whole, batch());
      IdTable resumed(options, whole.save());
      for (int step = 0; step < 20; ++step) {
        const Ids ids = batch();
        ASSERT_EQ(assign(resumed, ids).rows, assign(whole, ids).rows);
      }
      expect_equal(resumed.save(), whole.save());
    }
  }
}

std::string complaint(const IdTableOptions& options, const IdTable::Saved& saved = {}) {
  try {
    const IdTable table(options, saved);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(IdTable, OptionsOutOfRange) {
  EXPECT_EQ(complaint({0}), "id table: expected rows from 1 to 2147483616, got 0.");
  EXPECT_EQ(complaint({int64_t{1} << 31}),
            "id table: expected rows from 1 to 2147483616, got 2147483648.");
  EXPECT_EQ(complaint({5, 0}), "id table: expected admit_after from 1 to 255, got 0.");
  EXPECT_EQ(complaint({5, 256}), "id table: expected admit_after from 1 to 255, got 256.");
  EXPECT_EQ(IdTable({33}).rows(), 64);

  IdTable table({64});
  assign(table, {5, 6});
  IdTable::Saved saved = table.save();
  EXPECT_EQ(complaint({64}, saved), "");
  EXPECT_EQ(complaint({64, 2}, saved),
            "id table: what was saved is of a table with other options.");
  for (const int64_t row : {int64_t{-1}, int64_t{64}, saved.rows[0]}) {
    saved.rows[1] = row;
    EXPECT_EQ(complaint({64}, saved), "id table: id 6 cannot have row " + std::to_string(row) +
                                          " of 64: what was saved is damaged or of a table with "
                                          "another number of rows.");
  }
}

}  // namespace
}  // namespace hypertower::test
