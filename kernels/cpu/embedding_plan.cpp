#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/cpu/bag_check.h"
#include "kernels/cpu/radix_sort.h"
#include "kernels/error.h"
#include "kernels/parallel.h"

namespace hypertower::cpu {
namespace {

// Bits needed for the values 0 .. count - 1.
int bits_for(int64_t count) {
  return count > 1 ? std::bit_width(static_cast<uint64_t>(count - 1)) : 0;
}

// Ids per block of a parallel loop.
constexpr int64_t kBlock = 32768;

struct Storage {
  std::unique_ptr<uint64_t[]> keys;
  std::unique_ptr<uint64_t[]> scratch;
  std::unique_ptr<int32_t[]> run_start;
};

// Where the keys of each block of ids begin.
std::vector<int64_t> places_of_good_ids(const EmbeddingPlan::Data& plan, const Bags& bags,
                                        int threads) {
  std::vector<int64_t> first(bags.n / kBlock + 1);
  for (size_t b = 0; b < first.size(); ++b) first[b] = static_cast<int64_t>(b) * kBlock;
  if (plan.report.dropped == 0) return first;
  std::vector<int64_t> good(first.size() + 1, 0);
  parallel_for(threads, bags.n, kBlock, [&](int64_t begin, int64_t end) {
    good[begin / kBlock + 1] = std::count_if(
        bags.ids + begin, bags.ids + end, [&](int64_t id) { return is_row(id, plan.table_rows); });
  });
  for (size_t b = 0; b < first.size(); ++b) {
    good[b + 1] += good[b];
    first[b] = good[b];
  }
  return first;
}

}  // namespace

// One key per good id: the row above, its bag (or position, if weights must be found) below. The
// sort reads the row's bits only and is stable, so a run keeps the order of the lookup.
std::unique_ptr<EmbeddingPlan::Data> embedding_plan(int64_t table_rows, const Bags& bags,
                                                    BadIds policy, const Exec& exec) {
  auto plan = std::make_unique<EmbeddingPlan::Data>();
  plan->table_rows = table_rows;
  plan->bags = bags.bags;
  plan->n = bags.n;
  plan->weighted = bags.weights != nullptr;
  const PlanInput input{table_rows, bags};
  plan->report = check_bags({&input, 1}, policy, exec.threads)[0];
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
  const std::vector<int64_t> first_key = places_of_good_ids(*plan, bags, exec.threads);
  parallel_for(exec.threads, bags.n, kBlock, [&](int64_t begin, int64_t end) {
    uint64_t* key = memory.keys.get() + first_key[begin / kBlock];
    int64_t bag = bag_of(bags, begin);
    for (int64_t e = begin; e < end; ++e) {
      while (bags.offsets[bag + 1] <= e) ++bag;
      if (plan->weighted) bag_at[e] = static_cast<int32_t>(bag);
      if (!is_row(bags.ids[e], table_rows)) continue;
      const auto payload = static_cast<uint64_t>(plan->weighted ? e : bag);
      *key++ = static_cast<uint64_t>(bags.ids[e]) << shift | payload;
    }
  });
  const int64_t entries = plan->entries;
  uint64_t* sorted =
      radix_sort(memory.keys.get(), memory.scratch.get(), entries, shift, row_bits, exec.threads);
  uint64_t* rows = sorted == memory.keys.get() ? memory.scratch.get() : memory.keys.get();

  // Runs begin where a row differs from the one before: count them, then know where each is listed.
  const int64_t blocks = (entries + kBlock - 1) / kBlock;
  std::vector<int64_t> first_run(blocks + 1, 0);
  std::vector<uint64_t> row_before(blocks, 0);
  parallel_for(exec.threads, entries, kBlock, [&](int64_t begin, int64_t end) {
    uint64_t previous = begin == 0 ? ~(sorted[0] >> shift) : sorted[begin - 1] >> shift;
    row_before[begin / kBlock] = previous;
    int64_t count = 0;
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t row = sorted[i] >> shift;
      count += row != previous ? 1 : 0;
      previous = row;
    }
    first_run[begin / kBlock + 1] = count;
  });
  for (int64_t b = 0; b < blocks; ++b) first_run[b + 1] += first_run[b];
  const int64_t runs = first_run[blocks];
  memory.run_start = std::make_unique_for_overwrite<int32_t[]>(runs + 1);
  // In place from here: rows go where the sort left its scratch, entries replace their keys.
  const uint64_t payload_mask = (uint64_t{1} << shift) - 1;
  parallel_for(exec.threads, entries, kBlock, [&](int64_t begin, int64_t end) {
    uint64_t previous = row_before[begin / kBlock];
    int64_t run = first_run[begin / kBlock];
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t row = sorted[i] >> shift;
      if (row != previous) {
        rows[run] = row;
        memory.run_start[run++] = static_cast<int32_t>(i);
        previous = row;
      }
      const uint64_t payload = sorted[i] & payload_mask;
      sorted[i] = plan->weighted ? payload << 32 | static_cast<uint64_t>(bag_at[payload]) : payload;
    }
  });
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
