#include "kernels/cuda/bag_check.cuh"

namespace hypertower::cuda {
namespace {

struct Checked {
  const int64_t* ids;
  const int64_t* offsets;
  int64_t n, bags, table_rows;

  // One thread per id and per offset.
  int64_t threads() const { return offsets == nullptr ? 0 : std::max(n, bags + 1); }
};

}  // namespace

__global__ void __launch_bounds__(kCheckThreads)
    check_bags_kernel(const Several<Checked> lookups, BagErrors* all_errors, BagErrors* of_any) {
  const Checked& lookup = lookups.of[blockIdx.y];
  BagErrors* const errors = all_errors + blockIdx.y;
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (lookup.offsets == nullptr) return;  // neither bags nor ids
  if (i < lookup.n && !is_row(lookup.ids[i], lookup.table_rows)) {
    atomicAdd(&errors->dropped, 1ULL);
    atomicMax(&of_any->dropped, 1ULL);
    atomicMax(&errors->position, ~static_cast<unsigned long long>(i));
  }
  if (i > lookup.bags) return;
  const int64_t* const offsets = lookup.offsets;
  const bool falls = i == 0 ? offsets[0] != 0 : offsets[i] < offsets[i - 1];
  // Unsigned, because the difference of broken offsets can be beyond an integer.
  if (i > 0 && static_cast<uint64_t>(offsets[i]) - static_cast<uint64_t>(offsets[i - 1]) >
                   static_cast<uint64_t>(kPieceIds)) {
    atomicMax(&errors->long_bags, 1ULL);
  }
  if (falls || (i == lookup.bags && offsets[i] != lookup.n)) {
    atomicMax(&errors->offset, ~static_cast<unsigned long long>(i));
    atomicMax(&of_any->offset, 1ULL);
  }
}

BagCheck::BagCheck(std::span<const PlanInput> lookups, void* stream)
    : lookups_(lookups),
      stream_(static_cast<cudaStream_t>(stream)),
      errors_(lookups.size() + 1, stream_) {
  if (lookups.empty()) return;
  check(cudaMemsetAsync(errors_.data(), 0, (lookups.size() + 1) * sizeof(BagErrors), stream_),
        "bag check");
  std::vector<Checked> checked;
  for (const PlanInput& l : lookups) {
    checked.push_back({l.bags.ids, l.bags.offsets, l.bags.n, l.bags.bags, l.table_rows});
  }
  in_portions<Checked>(
      checked, [](const Checked& c) { return c.threads(); },
      [&](const Several<Checked>& portion, size_t first, unsigned count, int64_t threads) {
        check(launch(check_bags_kernel,
                     {.grid = grid_for(threads, 1, count),
                      .block = kCheckThreads,
                      .stream = stream_,
                      .name = "check_bags"},
                     portion, errors_.data() + first, errors_.data() + lookups.size()),
              "check_bags");
      });
}

std::vector<IdReport> BagCheck::finish(BadIds policy) const {
  std::vector<IdReport> reports;
  const std::vector<BagErrors> errors = to_host(errors_.data(), lookups_.size(), stream_);
  for (size_t i = 0; i < errors.size(); ++i) {
    reports.push_back(report(lookups_[i], errors[i], policy));
  }
  return reports;
}

IdReport BagCheck::report(const PlanInput& lookup, const BagErrors& errors, BadIds policy) const {
  if (errors.offset == 0 && errors.dropped == 0) return {};
  const Bags& bags = lookup.bags;
  const std::vector<int64_t> offsets = to_host(bags.offsets, bags.bags + 1, stream_);
  if (errors.offset != 0) {
    const auto at = static_cast<int64_t>(~errors.offset);
    throw_bad_offset(bags, at, offsets[at], at > 0 ? offsets[at - 1] : 0);
  }
  IdReport report;
  report.dropped = static_cast<int64_t>(errors.dropped);
  report.first_position = static_cast<int64_t>(~errors.position);
  report.first_bag =
      std::upper_bound(offsets.begin(), offsets.end(), report.first_position) - offsets.begin() - 1;
  report.first_id = to_host(bags.ids + report.first_position, 1, stream_)[0];
  if (policy == BadIds::kThrow) throw_bad_id(bags, report, lookup.table_rows);
  return report;
}

}  // namespace hypertower::cuda
