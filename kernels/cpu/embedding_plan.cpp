#include "kernels/cpu/embedding_plan.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/cpu/radix_sort.h"
#include "kernels/error.h"

namespace hypertower::cpu {
namespace {

int64_t bag_of(const Bags& bags, int64_t position) {
  return std::upper_bound(bags.offsets, bags.offsets + bags.bags + 1, position) - bags.offsets - 1;
}

// Bits needed for the values 0 .. count - 1.
int bits_for(int64_t count) {
  return count > 1 ? std::bit_width(static_cast<uint64_t>(count - 1)) : 0;
}

struct Storage {
  std::unique_ptr<uint64_t[]> keys;
  std::unique_ptr<uint64_t[]> scratch;
  std::unique_ptr<int32_t[]> run_start;
};

}  // namespace

void check_offsets(const Bags& bags) {
  if (bags.offsets == nullptr) return;
  if (bags.offsets[0] != 0) throw_bad_offset(bags, 0, bags.offsets[0], 0);
  for (int64_t b = 0; b < bags.bags; ++b) {
    if (bags.offsets[b + 1] < bags.offsets[b]) {
      throw_bad_offset(bags, b + 1, bags.offsets[b + 1], bags.offsets[b]);
    }
  }
  const int64_t last = bags.offsets[bags.bags];
  if (last != bags.n) throw_bad_offset(bags, bags.bags, last, 0);
}

IdReport check_bags(int64_t table_rows, const Bags& bags, BadIds policy) {
  check_offsets(bags);
  IdReport report;
  int64_t bad = 0;
  for (int64_t e = 0; e < bags.n; ++e) bad += is_row(bags.ids[e], table_rows) ? 0 : 1;
  if (bad == 0) return report;
  const int64_t* first = std::find_if(bags.ids, bags.ids + bags.n,
                                      [&](int64_t id) { return !is_row(id, table_rows); });
  report.dropped = bad;
  report.first_position = first - bags.ids;
  report.first_bag = bag_of(bags, report.first_position);
  report.first_id = *first;
  if (policy == BadIds::kThrow) throw_bad_id(bags, report, table_rows);
  return report;
}

// One key per good id: the row above, its bag (or position, if weights must be found) below. The
// sort reads the row's bits only and is stable, so a run keeps the order of the lookup.
std::unique_ptr<EmbeddingPlan::Data> embedding_plan(int64_t table_rows, const Bags& bags,
                                                    BadIds policy, const Exec& exec) {
  auto plan = std::make_unique<EmbeddingPlan::Data>();
  plan->table_rows = table_rows;
  plan->bags = bags.bags;
  plan->n = bags.n;
  plan->weighted = bags.weights != nullptr;
  plan->report = check_bags(table_rows, bags, policy);
  plan->entries = bags.n - plan->report.dropped;

  const int shift = bits_for(plan->weighted ? bags.n : bags.bags);
  const int row_bits = bits_for(table_rows);
  if (shift + row_bits > 64) {
    throw Error(ErrorKind::kArgument,
                bags_label(bags) + "a table of " + std::to_string(table_rows) + " rows with " +
                    std::to_string(bags.n) + " ids in one lookup does not fit 64-bit keys; " +
                    "split the batch.");
  }

  Storage memory{std::make_unique_for_overwrite<uint64_t[]>(bags.n),
                 std::make_unique_for_overwrite<uint64_t[]>(bags.n), nullptr};
  std::vector<int32_t> bag_at(plan->weighted ? bags.n : 0);
  int64_t entries = 0;
  for (int64_t b = 0; b < bags.bags; ++b) {
    for (int64_t e = bags.offsets[b]; e < bags.offsets[b + 1]; ++e) {
      if (plan->weighted) bag_at[e] = static_cast<int32_t>(b);
      if (!is_row(bags.ids[e], table_rows)) continue;
      const auto payload = static_cast<uint64_t>(plan->weighted ? e : b);
      memory.keys[entries++] = static_cast<uint64_t>(bags.ids[e]) << shift | payload;
    }
  }
  uint64_t* sorted =
      radix_sort(memory.keys.get(), memory.scratch.get(), entries, shift, row_bits, exec.threads);
  uint64_t* rows = sorted == memory.keys.get() ? memory.scratch.get() : memory.keys.get();

  int64_t runs = 0;
  for (int64_t i = 0; i < entries; ++i) {
    if (i == 0 || sorted[i] >> shift != sorted[i - 1] >> shift) ++runs;
  }
  memory.run_start = std::make_unique_for_overwrite<int32_t[]>(runs + 1);
  // In place from here: rows go where the sort left its scratch, entries replace their keys.
  const uint64_t payload_mask = (uint64_t{1} << shift) - 1;
  uint64_t previous = 0;
  int64_t run = 0;
  for (int64_t i = 0; i < entries; ++i) {
    const uint64_t row = sorted[i] >> shift;
    if (i == 0 || row != previous) {
      rows[run] = row;
      memory.run_start[run++] = static_cast<int32_t>(i);
      previous = row;
    }
    const uint64_t payload = sorted[i] & payload_mask;
    sorted[i] = plan->weighted ? payload << 32 | static_cast<uint64_t>(bag_at[payload]) : payload;
  }
  memory.run_start[runs] = static_cast<int32_t>(entries);

  plan->runs = runs;
  // int64_t may alias its unsigned twin.
  plan->row = reinterpret_cast<const int64_t*>(rows);
  plan->run_start = memory.run_start.get();
  plan->entry = sorted;
  plan->storage = std::make_shared<Storage>(std::move(memory));
  return plan;
}

}  // namespace hypertower::cpu
