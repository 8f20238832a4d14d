#include "kernels/cuda/bag_check.cuh"

#include <algorithm>
#include <cstddef>

namespace hypertower::cuda {

__global__ void __launch_bounds__(kCheckThreads)
    check_bags_kernel(int64_t table_rows, const int64_t* ids, int64_t n, const int64_t* offsets,
                      int64_t bags, BagErrors* errors) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n && !is_row(ids[i], table_rows)) {
    atomicAdd(&errors->dropped, 1ULL);
    atomicMin(&errors->first_position, static_cast<unsigned long long>(i));
  }
  if (i > bags) return;
  const bool falls = i == 0 ? offsets[0] != 0 : offsets[i] < offsets[i - 1];
  // Unsigned, because the difference of broken offsets can be beyond an integer.
  if (i > 0 && static_cast<uint64_t>(offsets[i]) - static_cast<uint64_t>(offsets[i - 1]) >
                   static_cast<uint64_t>(kPieceIds)) {
    atomicMax(&errors->long_bags, 1ULL);
  }
  if (falls || (i == bags && offsets[bags] != n)) {
    atomicMin(&errors->first_offset, static_cast<unsigned long long>(i));
  }
}

BagCheck::BagCheck(int64_t table_rows, const Bags& bags, void* stream)
    : table_rows_(table_rows),
      bags_(bags),
      stream_(static_cast<cudaStream_t>(stream)),
      errors_(1, stream_) {
  check(cudaMemsetAsync(errors_.data(), 0xFF, offsetof(BagErrors, dropped), stream_), "bag check");
  check(cudaMemsetAsync(&errors_.data()->dropped, 0,
                        sizeof(BagErrors) - offsetof(BagErrors, dropped), stream_),
        "bag check");
  if (bags.offsets == nullptr) return;  // neither bags nor ids
  check(launch(check_bags_kernel,
               {.grid = grid_for(std::max(bags.n, bags.bags + 1), 1),
                .block = kCheckThreads,
                .stream = stream_,
                .name = "check_bags"},
               table_rows, bags.ids, bags.n, bags.offsets, bags.bags, errors_.data()),
        "check_bags");
}

IdReport BagCheck::finish(BadIds policy) const {
  const BagErrors errors = to_host(errors_.data(), 1, stream_)[0];
  if (errors.first_offset == kNoneBad && errors.dropped == 0) return {};

  const std::vector<int64_t> offsets = to_host(bags_.offsets, bags_.bags + 1, stream_);
  if (errors.first_offset != kNoneBad) {
    const auto at = static_cast<int64_t>(errors.first_offset);
    throw_bad_offset(bags_, at, offsets[at], at > 0 ? offsets[at - 1] : 0);
  }
  IdReport report;
  report.dropped = static_cast<int64_t>(errors.dropped);
  report.first_position = static_cast<int64_t>(errors.first_position);
  report.first_bag =
      std::upper_bound(offsets.begin(), offsets.end(), report.first_position) - offsets.begin() - 1;
  report.first_id = to_host(bags_.ids + report.first_position, 1, stream_)[0];
  if (policy == BadIds::kThrow) throw_bad_id(bags_, report, table_rows_);
  return report;
}

}  // namespace hypertower::cuda
