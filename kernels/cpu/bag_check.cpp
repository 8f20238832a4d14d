#include "kernels/cpu/bag_check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bag_check.cpp"
#include "hwy/foreach_target.h"  // compiles this file once per SIMD target

#include <algorithm>
#include <atomic>

#include "hwy/highway.h"
#include "kernels/cpu/embedding_lists.h"

HWY_BEFORE_NAMESPACE();
namespace hypertower::cpu::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

int64_t count_bad_ids(const int64_t* ids, int64_t begin, int64_t end, int64_t table_rows) {
  const hn::ScalableTag<int64_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto rows = hn::Set(d, table_rows);
  auto good = hn::Zero(d);  // minus 1 for each
  int64_t e = begin;
  for (; e + lanes <= end; e += lanes) {
    const auto id = hn::LoadU(d, ids + e);
    const auto inside = hn::And(hn::Lt(id, rows), hn::Gt(id, hn::Set(d, int64_t{-1})));
    good = hn::Add(good, hn::VecFromMask(d, inside));
  }
  int64_t bad = e - begin + hn::GetLane(hn::SumOfLanes(d, good));
  for (; e < end; ++e) bad += is_row(ids[e], table_rows) ? 0 : 1;
  return bad;
}

}  // namespace
}  // namespace hypertower::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hypertower::cpu {
namespace {

HWY_EXPORT(count_bad_ids);

constexpr int64_t kBlock = 65536;  // ids, 20 us

IdReport report_of(const PlanInput& lookup, int64_t bad) {
  const Bags& bags = lookup.bags;
  const int64_t* first = std::find_if(bags.ids, bags.ids + bags.n,
                                      [&](int64_t id) { return !is_row(id, lookup.table_rows); });
  return {bad, bag_of(bags, first - bags.ids), first - bags.ids, *first};
}

}  // namespace

int64_t bag_of(const Bags& bags, int64_t position) {
  return std::upper_bound(bags.offsets, bags.offsets + bags.bags + 1, position) - bags.offsets - 1;
}

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

std::vector<IdReport> check_bags(std::span<const PlanInput> lookups, BadIds policy, int threads) {
  std::vector<int64_t> ids;
  for (const PlanInput& lookup : lookups) ids.push_back(lookup.bags.n);
  std::vector<std::atomic<int64_t>> bad(lookups.size());
  parallel_for_all(threads, ids, kBlock, [&](size_t i, int64_t begin, int64_t end) {
    const PlanInput& lookup = lookups[i];
    bad[i] += HWY_DYNAMIC_DISPATCH(count_bad_ids)(lookup.bags.ids, begin, end, lookup.table_rows);
  });
  std::vector<IdReport> reports(lookups.size());
  for (size_t i = 0; i < lookups.size(); ++i) {
    check_offsets(lookups[i].bags);
    if (bad[i] == 0) continue;
    reports[i] = report_of(lookups[i], bad[i]);
    if (policy == BadIds::kThrow) throw_bad_id(lookups[i].bags, reports[i], lookups[i].table_rows);
  }
  return reports;
}

}  // namespace hypertower::cpu
#endif  // HWY_ONCE
