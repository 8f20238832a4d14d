#include "kernels/cuda/id_newcomers.cuh"

namespace hypertower::cuda::ids {
namespace {

// place: the number of missing ids before each position.
__global__ void __launch_bounds__(kThreads)
    id_table_missing_kernel(const int64_t* ids, int64_t n, const int64_t* rows,
                            const int64_t* place, uint64_t* missed, uint32_t* order) {
  const int64_t i = thread_index();
  if (i >= n || rows[i] >= 0) return;
  missed[place[i]] = static_cast<uint64_t>(ids[i]);
  order[place[i]] = static_cast<uint32_t>(place[i]);
}

// Of sorted ids: run[i] = 1 where a run begins, first[order] = 1 for the first sighting of an id;
// both with one more element 0.
__global__ void __launch_bounds__(kThreads)
    id_table_runs_kernel(const uint64_t* sorted, const uint32_t* order, int64_t count, int64_t* run,
                         int64_t* first) {
  const int64_t i = thread_index();
  if (i > count) return;
  if (i == count) {
    run[count] = 0;
    first[count] = 0;
    return;
  }
  const int64_t begins = i == 0 || sorted[i] != sorted[i - 1] ? 1 : 0;
  run[i] = begins;
  first[order[i]] = begins;
}

// start[r] = where run r begins; run and first have been summed.
__global__ void __launch_bounds__(kThreads)
    id_table_starts_kernel(const int64_t* run, int64_t count, int64_t* start) {
  const int64_t i = thread_index();
  if (i > count) return;
  if (i == count) {
    start[run[count]] = count;
  } else if (run[i + 1] != run[i]) {
    start[run[i]] = i;
  }
}

__global__ void __launch_bounds__(kThreads)
    id_table_newcomers_kernel(const uint64_t* sorted, const uint32_t* order, const int64_t* first,
                              const int64_t* start, Newcomers fresh) {
  const int64_t r = thread_index();
  if (r >= fresh.count) return;
  const int64_t begin = start[r];
  const int64_t at = first[order[begin]];
  fresh.ids[at] = static_cast<int64_t>(sorted[begin]);
  fresh.times[at] = start[r + 1] - begin;
  fresh.rows[at] = -1;
  fresh.evicts[at] = 0;
  fresh.evicted_id[at] = 0;
  fresh.waits[at] = 0;
}

}  // namespace

NewcomerRuns::NewcomerRuns(const int64_t* ids, int64_t n, const int64_t* rows, const int64_t* place,
                           int64_t missing, cudaStream_t stream)
    : stream_(stream),
      sorted_(missing, 64, stream,
              [&](uint64_t* missed, uint32_t* order) {
                run(id_table_missing_kernel, "id_table_missing", n, stream, ids, n, rows, place,
                    missed, order);
              }),
      in_run_(missing + 1, stream),
      first_(missing + 1, stream),
      start_(missing + 1, stream) {
  run(id_table_runs_kernel, "id_table_runs", missing + 1, stream, sorted_.keys.data(),
      sorted_.order.data(), missing, in_run_.data(), first_.data());
  sum(in_run_.data(), missing + 1, stream);
  sum(first_.data(), missing + 1, stream);
  distinct_ = to_host(in_run_.data() + missing, 1, stream)[0];
  run(id_table_starts_kernel, "id_table_starts", missing + 1, stream, in_run_.data(), missing,
      start_.data());
}

void NewcomerRuns::write(const Newcomers& fresh) const {
  run(id_table_newcomers_kernel, "id_table_newcomers", fresh.count, stream_, sorted_.keys.data(),
      sorted_.order.data(), first_.data(), start_.data(), fresh);
}

}  // namespace hypertower::cuda::ids
