// The plan on CUDA: keys (row, position), a stable sort by the row's bits, heads of runs by a scan.
// Scratch per id: 24 bytes (40 with 64-bit rows) and the sort's own; it is released before return.
#include <bit>

#include "kernels/cuda/bag_check.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sort.h"

namespace hypertower::cuda {
namespace {

constexpr int kThreads = 256;

// Bad ids get the key `table_rows` and sort behind all others.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    plan_keys_kernel(const int64_t* ids, int64_t n, int64_t table_rows, Key* key,
                     uint32_t* position) {
  const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e >= n) return;
  key[e] = static_cast<Key>(is_row(ids[e], table_rows) ? ids[e] : table_rows);
  position[e] = static_cast<uint32_t>(e);
}

// head[i] = 1 where a run begins; head[entries] = 0, where the scan leaves their number.
// head[entries
// + 1] becomes 1 where a run has more than kPieceIds entries.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    run_heads_kernel(const Key* key, int64_t entries, int64_t* head) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i > entries) return;
  const bool begins = i < entries && (i == 0 || key[i] != key[i - 1]);
  head[i] = begins ? 1 : 0;
  if (begins && i + kPieceIds < entries && key[i] == key[i + kPieceIds]) {
    atomicMax(reinterpret_cast<unsigned long long*>(head + entries + 1), 1ULL);
  }
}

template <class Key>
__global__ void __launch_bounds__(kThreads)
    plan_entries_kernel(const Key* key, const uint32_t* position, int64_t entries,
                        const int64_t* run, const int64_t* offsets, int64_t bags, bool weighted,
                        int64_t* row, int32_t* run_start, uint64_t* entry) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i > entries) return;
  if (i == entries) {
    run_start[run[i]] = static_cast<int32_t>(entries);
    return;
  }
  const uint64_t e = position[i];
  entry[i] = static_cast<uint64_t>(bag_of(offsets, bags, static_cast<int64_t>(e))) |
             (weighted ? e << 32 : 0);
  if (run[i + 1] != run[i]) {  // `run` counts the heads before i
    row[run[i]] = static_cast<int64_t>(key[i]);
    run_start[run[i]] = static_cast<int32_t>(i);
  }
}

struct Storage {
  Storage(int64_t runs, int64_t entries, cudaStream_t stream)
      : row(runs, stream), run_start(runs + 1, stream), entry(entries, stream) {}

  Scratch<int64_t> row;
  Scratch<int32_t> run_start;
  Scratch<uint64_t> entry;
};

LaunchConfig config(const char* name, int64_t threads, cudaStream_t stream) {
  return {.grid = grid_for(threads, 1), .block = kThreads, .stream = stream, .name = name};
}

// Fills in the runs of a plan with at least one entry.
template <class Key>
void build_runs(EmbeddingPlan::Data* plan, const Bags& bags, cudaStream_t stream) {
  const int64_t n = bags.n, entries = plan->entries;
  const Scratch<Key> key_in(n, stream), key(n, stream);
  const Scratch<uint32_t> position_in(n, stream), position(n, stream);
  check(launch(plan_keys_kernel<Key>, config("plan_keys", n, stream), bags.ids, n, plan->table_rows,
               key_in.data(), position_in.data()),
        "plan_keys");

  const int bits = std::bit_width(static_cast<uint64_t>(plan->table_rows));
  const size_t sort_bytes = sort_pairs_workspace_bytes<Key>(n, 0, bits);
  const Scratch<char> sort_space(sort_bytes, stream);
  sort_pairs<Key>(sort_space.data(), sort_bytes, key_in.data(), key.data(), position_in.data(),
                  position.data(), n, 0, bits, stream);

  const Scratch<int64_t> run(entries + 2, stream);
  check(cudaMemsetAsync(run.data() + entries + 1, 0, sizeof(int64_t), stream), "run_heads");
  check(launch(run_heads_kernel<Key>, config("run_heads", entries + 1, stream), key.data(), entries,
               run.data()),
        "run_heads");
  const size_t scan_bytes = exclusive_scan_workspace_bytes(entries + 1);
  const Scratch<char> scan_space(scan_bytes, stream);
  exclusive_scan(scan_space.data(), scan_bytes, run.data(), run.data(), entries + 1, stream);
  const std::vector<int64_t> counts = to_host(run.data() + entries, 2, stream);
  plan->runs = counts[0];
  plan->long_runs = counts[1] != 0;

  const auto storage = std::make_shared<Storage>(plan->runs, entries, stream);
  check(launch(plan_entries_kernel<Key>, config("plan_entries", entries + 1, stream), key.data(),
               position.data(), entries, run.data(), bags.offsets, bags.bags, plan->weighted,
               storage->row.data(), storage->run_start.data(), storage->entry.data()),
        "plan_entries");
  plan->row = storage->row.data();
  plan->run_start = storage->run_start.data();
  plan->entry = storage->entry.data();
  plan->storage = storage;
}

}  // namespace

std::unique_ptr<EmbeddingPlan::Data> embedding_plan(int64_t table_rows, const Bags& bags,
                                                    BadIds policy, const Exec& exec) {
  auto plan = std::make_unique<EmbeddingPlan::Data>();
  plan->table_rows = table_rows;
  plan->bags = bags.bags;
  plan->n = bags.n;
  plan->weighted = bags.weights != nullptr;
  plan->report = BagCheck(table_rows, bags, exec.stream).finish(policy);
  plan->entries = bags.n - plan->report.dropped;
  if (plan->entries == 0) return plan;
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  if (table_rows < int64_t{1} << 32) {
    build_runs<uint32_t>(plan.get(), bags, stream);
  } else {
    build_runs<uint64_t>(plan.get(), bags, stream);
  }
  return plan;
}

}  // namespace hypertower::cuda
