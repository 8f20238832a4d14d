// The plan on CUDA: keys (row, position), a stable sort by the row's bits, heads of runs by a scan.
// Scratch per id: 24 bytes (40 with 64-bit rows) and the sort's own; it is released before return.
#include <bit>
#include <deque>

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

// A plan with at least one entry, from its sort to its runs. Keys are 32 bits where rows allow it.
class Build {
 public:
  // Enqueues all but the entries and leaves in counts[0] the number of runs, in counts[1] whether
  // one is long.
  Build(EmbeddingPlan::Data* plan, const Bags& bags, int64_t* counts, cudaStream_t stream)
      : plan_(plan),
        bags_(bags),
        stream_(stream),
        wide_(plan->table_rows >= int64_t{1} << 32),
        key_(static_cast<size_t>(bags.n) * (wide_ ? sizeof(uint64_t) : sizeof(uint32_t)), stream),
        position_(bags.n, stream),
        run_(plan->entries + 2, stream) {
    with_key([&]<class Key>() { sort<Key>(); });
    check(cudaMemcpyAsync(counts, run_.data() + plan->entries, 2 * sizeof(int64_t),
                          cudaMemcpyDeviceToDevice, stream),
          "run counts");
  }

  void finish(int64_t runs, bool long_runs) {
    plan_->runs = runs;
    plan_->long_runs = long_runs;
    const auto storage = std::make_shared<Storage>(runs, plan_->entries, stream_);
    with_key([&]<class Key>() {
      check(launch(plan_entries_kernel<Key>, config("plan_entries", plan_->entries + 1, stream_),
                   key<Key>(), position_.data(), plan_->entries, run_.data(), bags_.offsets,
                   bags_.bags, plan_->weighted, storage->row.data(), storage->run_start.data(),
                   storage->entry.data()),
            "plan_entries");
    });
    plan_->row = storage->row.data();
    plan_->run_start = storage->run_start.data();
    plan_->entry = storage->entry.data();
    plan_->storage = storage;
  }

 private:
  template <class Body>
  void with_key(const Body& body) {
    if (wide_) return body.template operator()<uint64_t>();
    body.template operator()<uint32_t>();
  }
  template <class Key>
  Key* key() const {
    return reinterpret_cast<Key*>(key_.data());
  }

  template <class Key>
  void sort() {
    const int64_t n = bags_.n, entries = plan_->entries;
    const Scratch<Key> key_in(n, stream_);
    const Scratch<uint32_t> position_in(n, stream_);
    check(launch(plan_keys_kernel<Key>, config("plan_keys", n, stream_), bags_.ids, n,
                 plan_->table_rows, key_in.data(), position_in.data()),
          "plan_keys");
    const int bits = std::bit_width(static_cast<uint64_t>(plan_->table_rows));
    const size_t sort_bytes = sort_pairs_workspace_bytes<Key>(n, 0, bits);
    const Scratch<char> sort_space(sort_bytes, stream_);
    sort_pairs<Key>(sort_space.data(), sort_bytes, key_in.data(), key<Key>(), position_in.data(),
                    position_.data(), n, 0, bits, stream_);

    check(cudaMemsetAsync(run_.data() + entries + 1, 0, sizeof(int64_t), stream_), "run_heads");
    check(launch(run_heads_kernel<Key>, config("run_heads", entries + 1, stream_), key<Key>(),
                 entries, run_.data()),
          "run_heads");
    const size_t scan_bytes = exclusive_scan_workspace_bytes(entries + 1);
    const Scratch<char> scan_space(scan_bytes, stream_);
    exclusive_scan(scan_space.data(), scan_bytes, run_.data(), run_.data(), entries + 1, stream_);
  }

  EmbeddingPlan::Data* plan_;
  const Bags& bags_;
  cudaStream_t stream_;
  const bool wide_;
  Scratch<char> key_;
  Scratch<uint32_t> position_;
  Scratch<int64_t> run_;
};

}  // namespace

// The host waits twice, however many plans there are: for the checks, and for the numbers of runs.
std::vector<std::unique_ptr<EmbeddingPlan::Data>> embedding_plans(std::span<const PlanInput> inputs,
                                                                  BadIds policy, const Exec& exec) {
  const auto stream = static_cast<cudaStream_t>(exec.stream);
  const std::vector<IdReport> reports = BagCheck(inputs, stream).finish(policy);
  const Scratch<int64_t> counts(2 * inputs.size(), stream);
  std::vector<std::unique_ptr<EmbeddingPlan::Data>> plans;
  std::deque<Build> builds;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Bags& bags = inputs[i].bags;
    plans.push_back(std::make_unique<EmbeddingPlan::Data>());
    EmbeddingPlan::Data& plan = *plans.back();
    plan.table_rows = inputs[i].table_rows;
    plan.bags = bags.bags;
    plan.n = bags.n;
    plan.weighted = bags.weights != nullptr;
    plan.report = reports[i];
    plan.entries = bags.n - plan.report.dropped;
    if (plan.entries == 0) continue;
    builds.emplace_back(&plan, bags, counts.data() + 2 * builds.size(), stream);
  }
  const std::vector<int64_t> runs = to_host(counts.data(), 2 * builds.size(), stream);
  for (size_t b = 0; b < builds.size(); ++b) {
    builds[b].finish(runs[2 * b], runs[2 * b + 1] != 0);
  }
  return plans;
}

}  // namespace hypertower::cuda
